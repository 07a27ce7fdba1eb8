"""The three configuration files of a private world, and how they are written."""

import json
import os

ROLES = ("encryption", "users", "service", "log")
KEY_NAME = "pfx-agent test key"
PROVIDER = "Microsoft Software Key Storage Provider"


def private_file(path, data):
    """Writes a file that only its owner can read."""
    if isinstance(data, str):
        data = data.encode("utf-8")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)


def yaml(value, depth=0):
    """YAML of dicts, lists and plain values: as much as the configuration needs."""
    pad = "  " * depth
    lines = []
    if isinstance(value, dict):
        for key, entry in value.items():
            if isinstance(entry, (dict, list)) and entry:
                lines.append("%s%s:" % (pad, key))
                lines.append(yaml(entry, depth + 1))
            else:
                lines.append("%s%s: %s" % (pad, key, scalar(entry)))
    else:
        for entry in value:
            if isinstance(entry, dict):
                text = yaml(entry, depth + 1)
                lines.append("%s- %s" % (pad, text.lstrip()))
            else:
                lines.append("%s- %s" % (pad, scalar(entry)))
    return "\n".join(lines)


def scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if value == []:
        return "[]"
    return json.dumps(value, ensure_ascii=False)


def merge(base, change):
    """A copy of base with the members of change in it; None takes a member away."""
    merged = dict(base)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


class Configured:
    """What a world's daemons are told: its own folders, tokens and simulators, and its changes."""

    def agent_conf(self):
        return {
            "state_dir": self.path("state"), "run_dir": self.path("run"),
            "rules": self.rules,
            "schedule": {"pass_every": "never", "poll_every": "1s", "validation_every": "2s",
                         "retry_min": "1s", "settle_grace": "4s"},
        }

    def uploader_conf(self):
        return {
            "agent_socket": self.path("run", "uploader"),
            "hsm_socket": self.path("hsm-run", "uploader"),
            "digicert": {"url": self.addresses["digicert"]},
            "entra": {"url": self.addresses["login"], "tenant": self.tenant_id, "app": "main"},
            "graph": {"url": self.addresses["graph"]},
            "exchange": {"url": self.addresses["exchange"]},
            "tls": {"ca_bundle": self.path("sim", "tls-ca.pem")},
            "limits": {"connect_timeout": "5s", "request_timeout": "10s", "job_timeout": "30s"},
        }

    def token_conf(self, role):
        entry = {"module": self.kinds[role].module, "token": "pkcs11:token=pfx-" + role}
        if self.kinds[role].parameters:
            entry["parameters"] = self.kinds[role].parameters
        if role != "encryption":
            entry["pin_file"] = self.path("pins", role)
        return entry

    def policy_conf(self):
        return {
            "host_id": "test-host",
            "state_dir": self.path("hsm-state"), "run_dir": self.path("hsm-run"),
            "agent_socket": self.path("run", "hsm"),
            "tokens": {role: self.token_conf(role) for role in ROLES},
            "entra": {"url": self.addresses["login"], "tenant": self.tenant_id,
                      "apps": [{"name": "main", "client_id": self.client_id}]},
            "users": {"ca_roots": self.path("sim", "smime-root.pem")},
            "encryption_key": {"name": KEY_NAME, "provider": PROVIDER},
        }

    def conf_path(self, name):
        return self.path("conf", name)

    def write_conf(self):
        for name, conf, change in (("agent.yaml", self.agent_conf(), self.changes["agent"]),
                                   ("uploader.yaml", self.uploader_conf(),
                                    self.changes["uploader"]),
                                   ("hsm-policy.yaml", self.policy_conf(),
                                    self.changes["policy"])):
            private_file(self.conf_path(name), yaml(merge(conf, change)) + "\n")
