"""Build files, read: no container engine is needed to see that they hang together."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

TOP = Path(__file__).parents[2]
DOCKER = TOP / "docker"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined."""
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in pairs]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


COMPOSE = yaml(DOCKER / "compose.yaml")


def test_only_known_instructions_are_used() -> None:
    known = {"FROM", "WORKDIR", "ENV", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"}
    known |= {"HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} == known


def test_one_stage_builds_and_the_other_runs() -> None:
    build, run = stages()
    assert build[0][1] == "python:3.13-slim AS build"
    assert run[0][1] == "python:3.13-slim"
    assert any("pip wheel --no-deps" in rest for name, rest in build if name == "RUN")
    assert ("COPY", "--from=build /wheels /tmp/wheels") in run


def test_nothing_without_a_hash_is_installed() -> None:
    for stage in stages():
        commands = " && ".join(rest for name, rest in stage if name == "RUN").split("&&")
        installs = [shlex.split(each) for each in commands if "pip install" in each]
        assert installs
        for install in installs:
            assert "--require-hashes" in install or "--no-index" in install
            assert not any("://" in word for word in install)


def test_it_does_not_run_as_root_and_owns_its_data() -> None:
    run = stages()[-1]
    user = next(rest for name, rest in run if name == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert [name for name, _ in run].index("USER") < [name for name, _ in run].index("ENTRYPOINT")
    assert ("VOLUME", "/data") in run
    assert f"-o {user.partition(':')[0]} -g" in " ".join(
        rest for name, rest in run if name == "RUN"
    )


def test_it_starts_meterd_and_asks_for_its_health() -> None:
    run = dict(stages()[-1])
    assert json.loads(run["ENTRYPOINT"]) == ["meterd"]
    assert json.loads(run["CMD"]) == ["run", "-c", "/etc/meterd/meterd.yaml"]
    command = json.loads(run["HEALTHCHECK"].partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert "http://127.0.0.1:8420/healthz" in command[2]


def sources() -> list[str]:
    copies = [rest.split() for name, rest in instructions() if name == "COPY"]
    return sorted(
        {word for words in copies if not words[0].startswith("--") for word in words[:-1]}
    )


@pytest.mark.parametrize("source", sources())
def test_what_is_copied_is_in_the_repository_and_in_the_context(source: str) -> None:
    assert (TOP / source).exists()
    assert f"!{source}" in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()


def test_the_build_gets_all_that_pyproject_wants() -> None:
    assert {"pyproject.toml", "README.md", "LICENSE", "meterd", "migrations"} <= set(sources())


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "network_mode" not in service
    assert "privileged" not in service
    # No registry's address, and a version: maker/image:tag.
    assert re.fullmatch(r"[a-z]+(/[a-z]+)?:[\w.]+", service["image"])
    assert not service["image"].endswith(":latest")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in COMPOSE["services"][name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_what_is_mounted_exists_and_named_volumes_are_declared() -> None:
    named = set()
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (DOCKER / source).exists(), volume
                assert rest.endswith(":ro")
            else:
                named.add(source)
    assert named == set(COMPOSE["volumes"])


def test_compose_builds_our_dockerfile() -> None:
    build = COMPOSE["services"]["meterd"]["build"]
    context = (DOCKER / build["context"]).resolve()
    assert context == TOP.resolve()
    assert (context / build["dockerfile"]).is_file()


def test_there_is_no_default_password() -> None:
    password = COMPOSE["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]
    assert re.fullmatch(r"\$\{GRAFANA_PASSWORD:\?.+\}", password)


def test_grafana_asks_meterd_and_so_does_prometheus() -> None:
    (source,) = yaml(DOCKER / "grafana/datasource.yaml")["datasources"]
    host = re.fullmatch(r"http://(\w+):8420/prometheus", source["url"])
    assert host is not None
    assert host[1] in COMPOSE["services"]
    assert COMPOSE["services"]["grafana"]["depends_on"] == [host[1]]
    (job,) = yaml(DOCKER / "prometheus.yml")["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["static_configs"] == [{"targets": ["meterd:8420"]}]
    assert yaml(DOCKER / "meterd.yaml")["api"] == {"listen": "0.0.0.0:8420", "insecure": True}


def test_the_data_source_is_that_of_the_host_but_for_its_address() -> None:
    ours = yaml(DOCKER / "grafana/datasource.yaml")
    theirs = yaml(TOP / "config/grafana/provisioning/datasources/meterd.yaml")
    theirs["datasources"][0]["url"] = ours["datasources"][0]["url"]
    assert ours == theirs


def test_the_dashboards_folder_is_the_one_that_is_mounted() -> None:
    (provider,) = yaml(TOP / "config/grafana/provisioning/dashboards/meterd.yaml")["providers"]
    path = provider["options"]["path"]
    volumes = COMPOSE["services"]["grafana"]["volumes"]
    assert f"../config/grafana/dashboards:{path}:ro" in volumes
    assert (
        "./grafana/datasource.yaml:/etc/grafana/provisioning/datasources/meterd.yaml:ro" in volumes
    )
