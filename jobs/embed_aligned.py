"""Everything up to stage embed_aligned as a Ray job.

ray job submit --working-dir . -- python jobs/embed_aligned.py --config configs/production.yaml --out s3://bucket/run
"""

import sys

from lgsid_ray.cli import app

if __name__ == "__main__":
    app(["embed-aligned", *sys.argv[1:]])
