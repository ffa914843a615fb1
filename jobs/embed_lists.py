"""Everything up to stage embed_lists as a Ray job.

ray job submit --working-dir . -- python jobs/embed_lists.py --config configs/production.yaml --out s3://bucket/run
"""

import sys

from lgsid_ray.cli import app

if __name__ == "__main__":
    app(["embed-lists", *sys.argv[1:]])
