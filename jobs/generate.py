"""Everything up to stage generate as a Ray job.

ray job submit --working-dir . -- python jobs/generate.py --config configs/production.yaml --out s3://bucket/run
"""

import sys

from lgsid_ray.cli import app

if __name__ == "__main__":
    app(["generate", *sys.argv[1:]])
