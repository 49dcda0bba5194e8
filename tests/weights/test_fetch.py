"""Downloads from a server that stops, resumes, changes its files and refuses."""

import hashlib
import http.server
import logging
import threading

import numpy as np
import pytest
import requests

from pse_jax.errors import WeightsError
from pse_jax.weights import fetch
from pse_jax.weights.fetch import CHUNK, cached_path, resolve

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT everywhere but at /none; stops after `stops_at` bytes of a response."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.stops_at, self.off_by = CONTENT, '"one"', [], 0
        self.requests = []  # (path, Range)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        if self.path == "/none":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", server.address.replace("127.0.0.1", "localhost") + "/a")
            self.end_headers()
            return
        start = 0
        if asked and self.headers.get("If-Range") == server.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        if start:
            whole = len(server.content)
            self.send_header("Content-Range", f"bytes {start - server.off_by}-{whole - 1}/{whole}")
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(body[: server.stops_at.pop(0)] if server.stops_at else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "SECONDS_BETWEEN", 0.0)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_file_is_downloaded_once(server, tmp_path, caplog):
    address = f"{server.address}/models/R-50.pkl"
    with caplog.at_level(logging.INFO, "pse_jax"):
        path = resolve(address, tmp_path)
    assert path.read_bytes() == CONTENT and path == cached_path(address, tmp_path)
    assert path.is_relative_to(tmp_path / "weights") and path.parts[-2:] == ("models", "R-50.pkl")
    assert "3.0 MB" in caplog.text and "not verified" in caplog.text
    assert resolve(address, tmp_path) == path
    assert len(server.requests) == 1
    assert not list(path.parent.glob("*.part*"))


def test_files_of_one_name_are_cached_separately(tmp_path):
    detectron = "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl"
    paths = {
        cached_path(address, tmp_path)
        for address in (
            detectron,
            detectron.replace("detectron/", "detectron2/"),
            detectron + "?version=2",
            detectron.replace("dl.", "dl2."),
        )
    }
    assert len(paths) == 4
    assert cached_path("https://a.b/../../../x.pth?a=/../b", tmp_path).is_relative_to(tmp_path)


def test_an_interrupted_download_resumes_where_it_stopped(server, tmp_path):
    server.stops_at = [20 * CHUNK, 10 * CHUNK]
    path = resolve(f"{server.address}/a.pth#sha256={SHA256}", tmp_path)
    assert path.read_bytes() == CONTENT
    starts = [asked for _, asked in server.requests]
    assert starts == [None, f"bytes={20 * CHUNK}-", f"bytes={30 * CHUNK}-"]


def test_the_next_command_resumes_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    server.stops_at = [30 * CHUNK]
    with pytest.raises(WeightsError, match="Run the same command again to resume"):
        resolve(f"{server.address}/a.pth", tmp_path)
    target = cached_path(f"{server.address}/a.pth", tmp_path)
    assert not target.exists()
    assert resolve(f"{server.address}/a.pth", tmp_path).read_bytes() == CONTENT
    assert server.requests[1][1] == f"bytes={30 * CHUNK}-"


@pytest.mark.parametrize("tag", ['"two"', ""])
def test_parts_of_two_files_are_never_joined(server, tmp_path, monkeypatch, tag):
    """The file changed in between, or the server does not tell whether it did."""
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    server.stops_at = [30 * CHUNK]
    server.tag = tag and '"one"'
    with pytest.raises(WeightsError):
        resolve(f"{server.address}/a.pth", tmp_path)
    server.content, server.tag = CONTENT[::-1], tag
    assert resolve(f"{server.address}/a.pth", tmp_path).read_bytes() == CONTENT[::-1]


def test_another_range_than_asked_for_starts_the_download_again(server, tmp_path):
    server.stops_at, server.off_by = [30 * CHUNK], 1
    assert resolve(f"{server.address}/a.pth", tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, f"bytes={30 * CHUNK}-", None]


def test_a_killed_but_complete_download_is_used(server, tmp_path):
    part = cached_path(f"{server.address}/a.pth", tmp_path).with_suffix(".pth.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    part.with_suffix(".part.tag").write_text('"one"')
    assert resolve(f"{server.address}/a.pth", tmp_path).read_bytes() == CONTENT


def test_a_redirection_to_http_is_refused(server, tmp_path):
    with pytest.raises(
        WeightsError, match=r"/moved redirects to http://localhost:.* not encrypted"
    ):
        resolve(f"{server.address}/moved", tmp_path)


def test_a_wrong_hash_deletes_the_download(server, tmp_path):
    address = f"{server.address}/a.pth"
    with pytest.raises(WeightsError) as raised:
        resolve(f"{address}#sha256={'0' * 64}", tmp_path)
    assert SHA256 in str(raised.value) and "0" * 64 in str(raised.value)
    assert not cached_path(address, tmp_path).exists()
    assert not list(cached_path(address, tmp_path).parent.glob("*.part"))
    assert resolve(f"{address}#sha256={SHA256[:8]}", tmp_path).read_bytes() == CONTENT


def test_a_file_put_into_the_cache_by_hand_is_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "get", None)  # nothing is downloaded
    address = f"https://download.pytorch.org/models/resnet50-{SHA256[:8]}.pth"
    path = cached_path(address, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert resolve(address, tmp_path) == path
    path.write_bytes(CONTENT[1:])
    with pytest.raises(WeightsError, match=f"must begin with {SHA256[:8]}; delete .*{path.name}"):
        resolve(address, tmp_path)
    assert path.exists()


def test_hashes_in_names_count_only_on_known_hosts():
    published = {name: fetch._published_hash(a) for name, a in fetch.SHORT_NAMES.items()}
    assert published == {
        "msra_r50": "",
        "torchvision_r50_v1": "0676ba61",
        "torchvision_r50_v2": "11ad3fa6",
        "torchvision_fcos_r50": "99b0c9b7",
    }
    assert fetch._published_hash("https://a.org/model-20240101.pth") == ""


def test_a_missing_file_is_not_asked_for_twice(server, tmp_path):
    with pytest.raises(WeightsError, match=r"/none cannot be downloaded.*: 404 Client Error"):
        resolve(f"{server.address}/none", tmp_path)
    assert len(server.requests) == 1
    assert not list(tmp_path.rglob("none*.part"))


def test_offline_the_error_says_what_to_put_where(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "get", no_network)
    with pytest.raises(WeightsError) as raised:
        resolve("msra_r50", tmp_path)
    text = str(raised.value)
    address = "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl"
    target = cached_path(address, tmp_path)
    assert address in text and f"put it into the cache as {target}" in text
    assert target.is_relative_to(tmp_path / "weights")
    assert "Name or service not known" in text and "--config.model.init_from=FILE" in text
    target.write_bytes(CONTENT)
    assert resolve("msra_r50", tmp_path) == target


def test_concurrent_processes_download_a_file_once(server, tmp_path):
    paths = []

    def run():
        paths.append(resolve(f"{server.address}/a.pth", tmp_path))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1 and len(set(paths)) == 1 and len(paths) == 4


def test_local_files_are_used_and_wrong_names_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert resolve(str(tmp_path / "a.pth"), tmp_path) == tmp_path / "a.pth"
    with pytest.raises(WeightsError, match=r"is not a file.*did you mean torchvision_r50_v[12] or"):
        resolve("torchvision_r50", tmp_path)
    with pytest.raises(WeightsError, match=r"is a folder.*names: msra_r50, torchvision_r50_v1"):
        resolve(str(tmp_path), tmp_path)
    with pytest.raises(WeightsError, match="give its https:// address"):
        resolve("http://example.org/a.pth", tmp_path)
    with pytest.raises(WeightsError, match="names a site, not a file"):
        resolve("https://example.org/", tmp_path)
