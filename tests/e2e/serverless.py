"""The training service ART's ServerlessBackend speaks to, over HTTP on this machine.

The paths and forms are those of ART's own client (`art.serverless.client`); the updates are real ones of the torch
backend, the answers real ones of the policy, any version of it.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from trainer.backends.trajectories import to_choice  # isort: skip  # first: it repairs what ART replaces

import art
from openai.types.chat.chat_completion import Choice

from spanloop.convert import messages_from_chat, tools_from_chat
from trainer.backends.background import Background
from trainer.backends.torch_backend import TorchBackend
from trainer.grpo.policy import load_policy
from trainer.rollouts.base import Prompt, SamplingParams
from trainer.rollouts.in_process import InProcessSampler

KEY, ENTITY = "a-key", "kitchen"


class Serverless:
    """Serves one model until closed."""

    def __init__(self, base: Path, root: Path) -> None:
        self.base, self.root = base, root
        self.jobs: list[dict[str, object]] = []
        """What each training job was asked to do with how many groups."""
        self.asked: list[str] = []
        """The models named by requests for answers."""
        self.deleted: list[int] = []
        self._lock = threading.Lock()
        self._loop = Background("service")
        self._policy = load_policy(base, device="cpu")
        self._weights = {0: self._copy()}
        self._backend = TorchBackend(path=root, policy=self._policy, serve=False)
        self._model: art.TrainableModel | None = None
        handler = type("Handler", (_Handler,), {"service": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def versions(self) -> list[int]:
        """Of the policy, that are kept."""
        return sorted(self._weights)

    def update_of_nobody(self) -> None:
        """A version more, as after an update whose caller was killed before it could note it."""
        self._weights[max(self._weights) + 1] = self._copy()

    def close(self) -> None:
        """Stop."""
        self._http.shutdown()
        self._http.server_close()
        self._loop.run(self._backend.close())
        self._loop.close()

    def handle(self, method: str, path: str, query: dict[str, list[str]], body: dict) -> object:
        """The answer to one request."""
        with self._lock:
            match method, path.removeprefix("/v1/").split("/"):
                case "POST", ["preview", "models"]:
                    return self._create(body)
                case "GET", ["preview", "models", _, "checkpoints"]:
                    return self._checkpoints(query)
                case "DELETE", ["preview", "models", _, "checkpoints"]:
                    return self._delete(body)
                case "POST", ["preview", "training-jobs"]:
                    return self._train(body)
                case "GET", ["preview", "training-jobs", job, "events"]:
                    return self._events(int(job), query)
                case "POST", ["chat", "completions"]:
                    return self._complete(body)
            raise KeyError(path)

    def _create(self, body: dict) -> object:
        if self._model is None:
            self._model = art.TrainableModel(
                name=body["name"], project=body["project"], base_model=str(self.base), report_metrics=[]
            )
            self._loop.run(self._backend.register(self._model))
        return {"id": "m1", "entity": ENTITY, "run_id": None} | {k: body[k] for k in ("project", "name", "base_model")}

    def _checkpoints(self, query: dict[str, list[str]]) -> object:
        steps = sorted(self._weights, reverse="desc" in query.get("order", []))
        limit = int(query.get("limit", ["100"])[0])
        return {"data": [{"id": f"c{s}", "step": s, "metrics": {}} for s in steps[:limit]], "has_more": False}

    def _delete(self, body: dict) -> object:
        self.deleted += body["steps"]
        for step in body["steps"]:
            del self._weights[step]
        return {"deleted_count": len(body["steps"]), "not_found_steps": []}

    def _train(self, body: dict) -> object:
        self._put(max(self._weights))
        groups = [_group(group) for group in body["trajectory_groups"]]
        options = {name: value for name, value in body["experimental_config"].items() if value is not None}
        self.jobs.append({**options, "groups": len(groups)})
        options["loss_fn"] = "ppo" if options.pop("ppo") else "cispo"
        result = self._loop.run(self._backend.train(self._model, groups, max_grad_norm=1.0, **options))
        self._weights[max(self._weights) + 1] = self._copy()
        self.jobs[-1]["loss"] = result.metrics["loss/train"]
        return {"id": str(len(self.jobs) - 1)}

    def _events(self, job: int, query: dict[str, list[str]]) -> object:
        data = [
            ("training_started", {"num_sequences": 1}),
            ("gradient_step", {"loss": self.jobs[job]["loss"]}),
            ("training_ended", {}),
        ]
        events = [{"id": f"e{i}", "type": kind, "data": values} for i, (kind, values) in enumerate(data)]
        seen = [event["id"] for event in events].index(query["after"][0]) + 1 if "after" in query else 0
        return {"data": events[seen:], "has_more": False}

    def _complete(self, body: dict) -> object:
        self.asked.append(body["model"])
        self._put(int(body["model"].rpartition(":step")[2]))
        prompt = Prompt(
            prompt_id="p",
            messages=messages_from_chat(body["messages"]),
            tools=tools_from_chat(body.get("tools") or []),
        )
        params = SamplingParams(
            num_samples=body["n"], temperature=body["temperature"], max_tokens=body["max_tokens"], seed=body["seed"]
        )
        (group,) = InProcessSampler(self._policy).sample([prompt], params)
        choices = [to_choice(rollout).to_dict() for rollout in group]
        return {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"], "choices": choices}

    def _copy(self) -> dict:
        return {name: tensor.clone() for name, tensor in self._policy.module.state_dict().items()}

    def _put(self, version: int) -> None:
        self._policy.module.load_state_dict(self._weights[version])


def _group(data: dict) -> art.TrajectoryGroup:
    """From JSON: sampled answers become choices again."""
    for trajectory in data["trajectories"]:
        trajectory["messages_and_choices"] = [
            Choice.model_validate(item) if "finish_reason" in item else item
            for item in trajectory["messages_and_choices"]
        ]
    return art.TrajectoryGroup([art.Trajectory(**trajectory) for trajectory in data["trajectories"]])


class _Handler(BaseHTTPRequestHandler):
    """JSON in, JSON out."""

    service: Serverless
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        url = urlsplit(self.path)
        status, answer = 200, None
        if self.headers["Authorization"] != f"Bearer {KEY}":
            status, answer = 401, {"error": {"message": "no such key"}}
        else:
            try:
                answer = self.service.handle(self.command, url.path, parse_qs(url.query), body)
            except KeyError as error:
                status, answer = 404, {"error": {"message": f"there is no {error}"}}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815  # the standard library's names

    def log_message(self, *args):
        """Nothing."""
