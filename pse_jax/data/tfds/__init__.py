"""coco/2017 as tensorflow_datasets prepares it: the same examples and ids as COCO's own files."""
