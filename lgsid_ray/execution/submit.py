"""Run a stage, or the whole path, as a Ray job on a cluster that already stands."""

import asyncio
import logging
import os
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from lgsid_ray.config import load
from lgsid_ray.errors import ConfigError

ADDRESS = "http://127.0.0.1:8265"
EXCLUDES = [".git", ".venv", "/runs", "/build", "/dist", "__pycache__", ".*_cache", "*.egg-info"]
POLL_S = 1.0
ATTEMPTS = 4  # the head itself waits for its agent for some seconds before it says that there is none
NO_AGENT = "No available agent"
AGENT_PORT = 52365
SCRIPT = "jobs/run.py"
CHATTY = (  # they list every file of the upload
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)


@dataclass(frozen=True)
class Job:
    """What is to be run: `jobs/run.py STAGE` of the working directory with the usual arguments."""

    stage: str
    """`run`, or the name of a stage; whoever knows the stages checks it."""
    out: str
    """Run directory as every node sees it: a URI, or an absolute path on storage that the nodes share."""
    config: str | None = None
    """YAML file inside the working directory."""
    overrides: tuple[str, ...] = ()
    working_dir: str = "."
    """Folder that is sent to the cluster: this checkout, with jobs/ and lgsid_ray/."""

    def entrypoint(self) -> str:
        """The shell command of the job.

        Raises:
            ConfigError: the configuration is refused, or a path would not mean the same on the cluster.
        """
        home = Path(self.working_dir).resolve()
        if not (home / SCRIPT).is_file():
            raise ConfigError(f"no {SCRIPT} in {home}; submit from a checkout, or name one with --working-dir")
        if "://" not in self.out and not Path(self.out).is_absolute():
            raise ConfigError(
                f"--out {self.out}: a job's own folder vanishes with the job; give a URI such as s3://bucket/run, "
                "or an absolute path that all nodes share"
            )
        load(self.config, list(self.overrides))
        command = ["python", SCRIPT, self.stage.replace("_", "-"), "--out", self.out]
        if self.config is not None:
            file = Path(self.config).resolve()
            if not file.is_relative_to(home):
                raise ConfigError(f"--config {self.config}: only files under {home} are sent to the cluster")
            command += ["--config", file.relative_to(home).as_posix()]
        for override in self.overrides:
            command += ["--set", override]
        return shlex.join(command)

    def variables(self) -> dict[str, str]:
        """The environment variables that the configuration refers to as `${NAME}`, with their local values."""
        texts = [*self.overrides]
        if self.config is not None:
            texts.append(Path(self.config).read_text(encoding="utf-8"))
        names = {name for text in texts for name in re.findall(r"\$\{(\w+)", text)}
        return {name: os.environ[name] for name in sorted(names) if name in os.environ}


def submit(
    job: Job,
    address: str = ADDRESS,
    wait: bool = True,
    log: Callable[[str], None] = print,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Send the job, follow its log to the end, and return the exit code of its driver.

    Args:
        address: the cluster's dashboard; RAY_API_SERVER_ADDRESS, where set, comes first.
        wait: False returns 0 as soon as the cluster has accepted the job.

    Raises:
        ConfigError: the job is refused here, or the cluster does not answer, does not accept the token or
            cannot start jobs.
    """
    entrypoint = job.entrypoint()
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        client = JobSubmissionClient(address)
        identity = _accepted(client, job, entrypoint, address, log, pause)
    except (ConnectionError, RuntimeError, RayError) as error:
        raise ConfigError(
            f"cluster {address}: cannot submit: {error}; is the dashboard forwarded to this machine, and does "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH hold the cluster's token?"
        ) from None
    log(f"job {identity}: {entrypoint}")
    if not wait:
        log(f"follow it with: ray job logs --address {address} --follow {identity}")
        return 0
    asyncio.run(_follow(client, identity, log))
    return _exit_code(_finished(client, identity, pause), log)


def _accepted(
    client: JobSubmissionClient,
    job: Job,
    entrypoint: str,
    address: str,
    log: Callable[[str], None],
    pause: Callable[[float], None],
) -> str:
    """The accepted job's identity; a head that has just started has no agent yet to start jobs."""
    for attempt in range(ATTEMPTS):
        try:
            return client.submit_job(
                entrypoint=entrypoint,
                runtime_env={"working_dir": job.working_dir, "excludes": EXCLUDES, "env_vars": job.variables()},
                metadata={"out": job.out, "stage": job.stage},
            )
        except RuntimeError as error:
            if NO_AGENT not in str(error):
                raise
        if not attempt:
            log(f"cluster {address}: its head has no agent yet that starts jobs; trying again")
        pause(POLL_S)
    raise ConfigError(
        f"cluster {address}: the dashboard answers, but the agent that starts jobs has not come up on its head: "
        f"{_port_holder(address)}; its port is {AGENT_PORT}, or what `ray start --dashboard-agent-listen-port` says"
    )


def _port_holder(address: str) -> str:
    """Why the agent may not have come up: another listens on its port, which can be seen on this machine only."""
    if urlsplit(address).hostname in ("127.0.0.1", "localhost"):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and AGENT_PORT in one.laddr:
                name = psutil.Process(one.pid).name() if one.pid else "another user's"
                return (
                    f"port {AGENT_PORT} is taken by process {one.pid} ({name}), for example the Ray of a local run; "
                    "start the head again when that has ended, or with another port"
                )
    return "try again in a moment, then look into dashboard_agent.log among the head's Ray logs"


async def _follow(client: JobSubmissionClient, identity: str, log: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(identity):
        log(lines.rstrip("\n"))


def _finished(client: JobSubmissionClient, identity: str, pause: Callable[[float], None]) -> JobDetails:
    while not (details := client.get_job_info(identity)).status.is_terminal():
        pause(POLL_S)
    return details


def _exit_code(details: JobDetails, log: Callable[[str], None]) -> int:
    log(f"job {details.submission_id}: {details.status.value.lower()}")
    if details.status == JobStatus.SUCCEEDED:
        return 0
    # A job that failed before its driver ran, or that was stopped, has no exit code of its own.
    if not details.driver_exit_code:
        log(details.message or "no message")
        return 1
    return details.driver_exit_code
