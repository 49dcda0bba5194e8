"""Other people's data sets: what a folder holds, and how it becomes one in COCO's format."""
