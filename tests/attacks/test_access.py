"""Access: keys, sessions and the audit log."""

import json
import re
import shutil
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from itertools import islice
from multiprocessing import get_context

import pytest
from copies import copy_workspace
from studio_client import StudioClient
from typer.testing import CliRunner
from web_server import client_of, program

from molar.reports import remember_folder
from molar_cli.app import app
from molar_retrieval.workspace.activity_log import ChainedLines
from molar_serving.audit import AuditLog
from molar_serving.auth import Keyring, RateLimits, WrongKeyError
from molar_serving.studio.roles import scopes_of
from molar_serving.studio.sessions import TOKEN, VISITOR

KEYS = 6_000  # wrong ones


@pytest.fixture
def workspace(trained, tmp_path):
    root = copy_workspace(trained.workspace, tmp_path / ".molar")
    shutil.rmtree(root / "serving", ignore_errors=True)
    return root


def at_once(rounds, *work):
    """Do the work of several processes, round by round at the same moment; each is called with the round's number."""
    context = get_context("spawn")
    barrier = context.Barrier(len(work))
    processes = [context.Process(target=_rounds, args=(barrier, rounds, *one)) for one in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def _rounds(barrier, rounds, function, *arguments):
    for number in range(rounds):
        barrier.wait(60)
        function(number, *arguments)


def _add(number, workspace):
    Keyring(workspace).add(f"new-{number}", ["answer"])


def _revoke(number, workspace):
    Keyring(workspace).revoke(f"old-{number}")


def _remember(number, workspace, name):
    folder = workspace.parent / f"{name}-{number}"
    folder.mkdir()
    (folder / "report.html").write_text("page")
    (folder / "report.json").write_text(json.dumps({"title": "t", "suite": "s"}))
    remember_folder(workspace, folder)


def _write(number, workspace, name):
    AuditLog(workspace).write(by=name, n=number)


def test_keys_changed_by_two_processes(tmp_path, rounds, measured):
    """A revoked key stays revoked and a new key stays valid, whoever changes keys at the same moment."""
    many = rounds(40, 400)
    for number in range(many):
        Keyring(tmp_path).add(f"old-{number}", ["answer"])
    at_once(many, (_add, tmp_path), (_revoke, tmp_path))
    names = set(Keyring(tmp_path).keys())
    assert {name for name in names if name.startswith("old-")} == set()
    assert names == {f"new-{number}" for number in range(many)}
    measured(f"{many} rounds: 0 keys lost, 0 valid again")


def test_reports_remembered_by_two_processes(tmp_path, rounds):
    """Two processes that record reports at the same moment lose neither report."""
    many = rounds(20, 45)
    at_once(many, (_remember, tmp_path / ".molar", "a"), (_remember, tmp_path / ".molar", "b"))
    assert len(json.loads((tmp_path / ".molar/evaluation/elsewhere.json").read_text("utf-8"))) == 2 * many


def test_a_copied_cookie_after_sign_out(workspace, tmp_path):
    """After sign-out, a copied session cookie is rejected by every server process."""
    key = Keyring(workspace).add("anna", scopes_of("admin"))
    with program(workspace, "--workers", "2") as server:
        anna, elsewhere = (StudioClient(server.client()) for _ in range(2))
        assert anna.sign_in(key).status_code == 303
        assert elsewhere.sign_in(key).status_code == 303
        copied = dict(anna.cookies)
        assert anna.get("/studio/changes").status_code == 200
        assert anna.post("/studio/session/end").headers["location"] == "/studio/session"
        for _ in range(20):  # each with a connection of its own, so that both workers are asked
            with server.client() as client:
                assert StudioClient(client, copied).get("/studio/changes").status_code == 303
        assert elsewhere.get("/studio/changes").status_code == 200  # another session of the same key
        elsewhere.client.close()
        anna.client.close()
    with client_of(workspace) as client:  # nor after the server was started again
        assert StudioClient(client, copied).get("/studio/changes").status_code == 303


def test_sessions_ended_without_end(workspace):
    """Endless sign-ins and sign-outs do not fill the disk or make an ended session valid again."""
    key = Keyring(workspace).add("anna", scopes_of("viewer"))
    file = workspace / "serving" / "sessions.json"
    with client_of(workspace) as client:
        ended, sizes = [], []
        for _ in range(130):
            anna = StudioClient(client)
            anna.sign_in(key)
            ended.append(dict(anna.cookies))
            anna.post("/studio/session/end")
            sizes.append(file.stat().st_size)
        assert max(sizes[100:]) <= max(sizes[:100])
        assert {StudioClient(client, one).get("/studio/changes").status_code for one in ended} == {303}


def test_a_sign_in_form_from_elsewhere(workspace):
    """A sign-in form on another site is rejected: the visitor's form token and the same origin are required."""
    key = Keyring(workspace).add("mallory", scopes_of("viewer"))
    with client_of(workspace) as client:
        victim, attacker = StudioClient(client), StudioClient(client)
        assert victim.token != attacker.token
        fields = {"key": key, TOKEN: attacker.token}
        assert victim.post("/studio/session", fields).status_code == 403
        bare = client.post("/studio/session", data=fields, headers={"cookie": ""}, follow_redirects=False)
        assert bare.status_code == 403
        own = {"key": key, TOKEN: victim.token}
        cookie = {"cookie": f"{VISITOR}={victim.cookies[VISITOR]}"}
        statuses = {}
        for page in ("https://evil.example", "null", "http://127.0.0.1:8081", "http://127.0.0.1.evil.example", "x://["):
            client.cookies.clear()
            told = client.post("/studio/session", data=own, headers={**cookie, "origin": page}, follow_redirects=False)
            statuses[page] = told.status_code, "set-cookie" in told.headers
        assert set(statuses.values()) == {(403, False)}, statuses
        client.cookies.clear()
        right = {**cookie, "origin": "http://127.0.0.1"}
        assert client.post("/studio/session", data=own, headers=right, follow_redirects=False).status_code == 303


def test_wrong_keys_without_end(workspace, trained, rounds, measured):
    """Wrong keys are rate-limited and audited; a client with the right key is answered at once meanwhile."""
    key, page = Keyring(workspace).add("shop", ["answer"]), Keyring(workspace).add("anna", scopes_of("viewer"))
    many = rounds(60, KEYS)
    with client_of(workspace) as client:
        anna = StudioClient(client)

        def ask(sent):
            body = {"user_id": trained.user}
            return client.post("/v1/recommendations", json=body, headers={"authorization": f"Bearer {sent}"})

        answers = [ask(f"molar_shop_wrong{number}") for number in range(many)]
        slowed = [one for one in answers if one.status_code == 429]
        assert {one.status_code for one in answers} == {401, 429}
        assert len(slowed) > many / 2
        assert all(1 <= int(one.headers["retry-after"]) <= 10 for one in slowed)
        signed = anna.post("/studio/session", {"key": "molar_anna_wrong"})  # the same bucket
        assert (signed.status_code, "retry-after" in signed.headers) == (429, True)
        began = time.perf_counter()
        assert ask(key).status_code == 200
        assert anna.sign_in(page).status_code == 303
        waited = time.perf_counter() - began
        assert waited < 5
    lines = [json.loads(line) for line in (workspace / "serving" / "audit.jsonl").read_text().splitlines()]
    wrong = [line for line in lines if "tried" in line]
    assert sum(line["requests"] for line in wrong if line["tried"] == "shop") == many
    assert sum(line["requests"] for line in wrong if line["tried"] == "anna") == 1
    assert all("testclient" not in str(line) and re.fullmatch("[0-9a-f]{32}", line["address"]) for line in wrong)
    measured(f"{len(slowed):,} of {many:,} answered 429; the right key within {waited:.1f} s")


def test_wrong_keys_from_everywhere():
    """Wrong keys from ever-changing addresses are rate-limited too, in bounded memory."""
    limits, wrong, addresses = RateLimits(), WrongKeyError("send one"), iter(range(1 << 32))

    def refused(count):
        sent = (limits.refusal(wrong, str(IPv4Address(number))) for number in islice(addresses, count))
        return sum(one.status == 429 for one in sent) / count

    assert refused(120_000) > 0.5
    tracemalloc.start()
    try:
        assert refused(60_000) > 0.5
        before, _ = tracemalloc.get_traced_memory()
        assert refused(60_000) > 0.5
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after < before + (8 << 20)  # of 60,000 more


def doctor(workspace):
    """What `molar doctor --deep` says of the audit log."""
    done = CliRunner().invoke(app, ["doctor", "--deep", "--json", "-w", str(workspace)])
    return [one["problem"] for one in json.loads(done.stdout)["problems"] if one["section"] == "audit"]


def _lines(edit):
    return lambda file: file.write_bytes(b"".join(edit(file.read_bytes().splitlines(keepends=True))))


TAMPERED = {
    "removed": (_lines(lambda all_: all_[:2] + all_[3:]), "audit.jsonl, line 3"),
    "changed": (
        lambda file: file.write_bytes(file.read_bytes().replace(b'"key-2"', b'"key-9"')),
        "audit.jsonl, line 3",
    ),
    "first": (_lines(lambda all_: all_[1:]), "audit.jsonl, line 1"),
    "reordered": (_lines(lambda all_: [all_[0], all_[2], all_[1], *all_[3:]]), "audit.jsonl, line 2"),
    "repeated": (_lines(lambda all_: [*all_[:3], all_[2], *all_[3:]]), "audit.jsonl, line 4"),
    "made up": (_lines(lambda all_: [*all_[:3], b'{"time":"now"}\n', *all_[3:]]), "audit.jsonl, line 4"),
    "tail": (_lines(lambda all_: all_[:-1]), "audit.jsonl: number 6 is missing at its end"),
    "long tail": (_lines(lambda all_: all_[:3]), "audit.jsonl: numbers 4 to 6 are missing at its end"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-9]), "audit.jsonl: number 6 is missing at its end"),
    "all": (lambda file: file.unlink(), "audit.jsonl: numbers 1 to 6 are missing at its end"),
    "head": (lambda file: file.with_suffix(".head.json").unlink(), "audit.head.json"),
    "damaged head": (lambda file: file.with_suffix(".head.json").write_text("{"), "audit.head.json"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_the_audit_log_is_tampered_with(workspace, how):
    """A missing, changed or moved line of the audit log is reported by file and line, on every later check."""
    for number in range(6):
        Keyring(workspace).add(f"key-{number}", ["answer"])
    assert doctor(workspace) == []
    damage, told = TAMPERED[how]
    damage(workspace / "serving" / "audit.jsonl")
    (found,) = doctor(workspace)
    assert told in found
    Keyring(workspace).add("later", ["answer"])  # what is written later hides nothing
    assert doctor(workspace)


def test_a_crash_leaves_no_alarm(workspace):
    """A crash during a write of the audit log leaves its chain intact."""
    file = workspace / "serving" / "audit.jsonl"
    head = file.with_suffix(".head.json")
    Keyring(workspace).add("one", ["answer"])
    with file.open("ab") as half:
        half.write(b'{"time":"2026-01-01T00:00')
    assert doctor(workspace) == []
    Keyring(workspace).add("two", ["answer"])
    former = head.read_bytes()
    Keyring(workspace).add("three", ["answer"])
    head.write_bytes(former)  # the line was written, its digest not yet
    assert doctor(workspace) == []
    Keyring(workspace).add("four", ["answer"])
    file.write_bytes(file.read_bytes().removesuffix(b"\n"))
    Keyring(workspace).add("five", ["answer"])
    assert doctor(workspace) == []
    made = [json.loads(line)["made"] for line in file.read_text().splitlines()]
    assert made == ["one", "two", "three", "four", "five"]


def test_many_write_the_audit_log(workspace, rounds, measured):
    """Processes that write the audit log at the same moment produce one chain and lose no line."""
    many = rounds(30, 300)
    with client_of(workspace) as client:
        key = Keyring(workspace).add("shop", ["rules"])
        sent = {"authorization": f"Bearer {key}"}
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(client.put, "/v1/rules", json={"toml": "wrong"}, headers=sent) for _ in range(many)]
            at_once(many, (_write, workspace, "a"), (_write, workspace, "b"))
            assert {one.result().status_code for one in asked} == {422}
    assert doctor(workspace) == []
    lines = [json.loads(line) for line in (workspace / "serving" / "audit.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert sum(line.get("by") == "a" for line in lines) == sum(line.get("by") == "b" for line in lines) == many
    assert sum("status" in line for line in lines) == many
    measured(f"{len(lines):,} lines of 3 processes, 1 chain")


def test_the_chain_goes_on_where_old_files_go(workspace):
    """A full audit log drops its oldest lines, and the chain of the remaining lines is still verified."""
    log = ChainedLines(workspace / "serving" / "audit.jsonl", most=1_000, kept=2)
    for number in range(40):
        log.append({"n": number})
    files = sorted(log.path.parent.glob("audit.*.jsonl"))
    assert len(files) == 2
    assert json.loads(files[0].read_text().splitlines()[0])["n"] > 0
    assert doctor(workspace) == []
    files[0].write_bytes(b"".join(files[0].read_bytes().splitlines(keepends=True)[1:]))
    assert f"{files[0].name}, line 1" in doctor(workspace)[0]
    files[0].unlink()
    assert f"{files[1].name}, line 1" in doctor(workspace)[0]
