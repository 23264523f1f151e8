"""gdb's protocol without gdb: what each request is answered, and where the run is then."""

from __future__ import annotations

import random
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from client import MULTIPROCESS, Client

from shstk.gdb.registers import REGISTERS
from shstk.replay.run import Run

READ_ONLY = "E.a recording is read-only"
Runs = dict[str, Path]


def fields(stop: str) -> dict[str, str]:
    """The pairs of a T stop reply."""
    pairs = (pair.partition(":") for pair in stop[3:].split(";") if pair)
    return {name: value for name, _, value in pairs}


def state(client: Client) -> object:
    """All registers of all threads, and what ssp and sp point to."""
    threads = client.threads()
    seen = []
    for thread in threads:
        client.ask(f"Hg{thread}")
        seen.append((thread, client.ask("g"), client.word(client.register("sp"))))
    return seen


# ---- what gdb asks first ------------------------------------------------------------------------


def test_the_description_names_the_registers_of_the_g_packet(runs: Runs) -> None:
    with Client(runs["pthread"]) as client:
        answer = client.ask("qXfer:features:read:target.xml:0,ffff")
        registers = list(ET.fromstring(answer[1:]).iter("reg"))
        assert [r.get("name") for r in registers] == [r.name for r in REGISTERS]
        assert [int(r.get("regnum", "")) for r in registers] == list(range(len(REGISTERS)))
        bits = sum(int(r.get("bitsize", "")) for r in registers)
        assert len(client.ask("g")) == bits // 4
        assert {"ssp", "elp", "cfi", "vlenb", "v31"} <= {r.name for r in REGISTERS}


def test_objects_are_read_in_pieces(runs: Runs) -> None:
    with Client(runs["pthread"]) as client:
        whole = client.ask("qXfer:threads:read::0,ffff")[1:]
        first = client.ask("qXfer:threads:read::0,10")
        assert first == "m" + whole[:16]
        assert client.ask("qXfer:threads:read::10,ffff") == "l" + whole[16:]
        assert client.ask("qXfer:nonsense:read::0,10") == ""


@pytest.mark.parametrize(
    "packet", ["G00", "P1=00", "M1000,1:00", "X1000,1:0", "qXfer:siginfo:write::0:00"]
)
def test_nothing_is_written(runs: Runs, packet: str) -> None:
    with Client(runs["pthread"]) as client:
        assert client.ask(packet) == READ_ONLY


@pytest.mark.parametrize(
    "packet", ["m", "m1,2,3", "p", "pzz", "Z0", "Z0,x,4", "vCont;", "vCont;r1:1", "Hgp", "qRcmd,1"]
)
def test_a_malformed_request_is_an_error(runs: Runs, packet: str) -> None:
    with Client(runs["pthread"]) as client:
        assert client.ask(packet) == "E16"
        assert client.place() == 1


def test_what_is_not_supported_is_answered_by_nothing(runs: Runs) -> None:
    with Client(runs["pthread"]) as client:
        for packet in ("vMustReplyEmpty", "qTStatus", "Z9,0,0", "vFile:chmod:00", "!"):
            assert client.ask(packet) == ""


def test_noise_between_packets_is_ignored(runs: Runs) -> None:
    with Client(runs["pthread"]) as client:
        client.send(b"++-noise#00")
        assert client.ask("qC").startswith("QC")


# ---- forwards and backwards ---------------------------------------------------------------------


def test_steps_backwards_undo_steps(runs: Runs) -> None:
    rng = random.Random(4)
    with Client(runs["turns"]) as client:
        for _ in range(4):
            client.monitor(f"goto {rng.randrange(1, 5000)}")
            states = [(client.place(), state(client))]
            thread = fields(client.ask("?"))["thread"]
            for _ in range(rng.randrange(2, 12)):
                stop = client.ask(f"vCont;s:{thread}")
                assert fields(stop)["thread"] == thread
                states.append((client.place(), state(client)))
            client.ask(f"Hc{thread}")
            for before in states[-2::-1]:
                client.ask("bs")
                assert (client.place(), state(client)) == before


def test_a_step_of_a_thread_lets_the_others_run_in_between(runs: Runs) -> None:
    with Client(runs["pthread"]) as client:
        client.monitor("goto 1364.1")  # 100 has created 101, which has not run yet
        assert client.threads() == ["p64.64", "p64.65"]
        pc = client.register("pc", "p64.65")
        stop = client.ask("vCont;s:p64.65")
        assert fields(stop) == {"thread": "p64.65"}
        assert client.place() == 3274
        assert client.register("pc") != pc
        client.ask("Hcp64.65")
        client.ask("bs")
        assert client.place() == 3273
        assert client.register("pc") == pc


def test_history_has_two_ends(runs: Runs) -> None:
    with Client(runs["pthread"]) as client:
        assert "replaylog" in fields(client.ask("bc"))
        assert fields(client.ask("bc"))["replaylog"] == "begin"
        end = client.ask("c")
        assert fields(end) == {"replaylog": "end", "thread": "p64.64"}
        assert client.place() == Run.open(runs["pthread"]).manifest.icount
        assert client.ask("c") == end
        assert client.ask("s") == end
        assert fields(client.ask("bc"))["replaylog"] == "begin"
        assert client.place() == 1


def test_breakpoints_are_the_process_s_own_and_in_no_memory(runs: Runs) -> None:
    cfi = Run.open(runs["turns"]).table("cfi")
    pushes = cfi.filter(kind="sspush").group_by("pc", maintain_order=True).len()
    pc = pushes.filter(pushes["len"] == 4)["pc"][0]
    places = [seq >> 20 for seq in cfi.filter(pc=pc)["seq"]]
    with Client(runs["turns"]) as client:
        text = client.ask(f"m{pc:x},4")
        assert client.ask(f"Z0,{pc:x},4") == "OK"
        assert client.ask(f"m{pc:x},4") == text
        for place in places:
            assert "swbreak" in fields(client.ask("vCont;c"))
            assert client.place() == place
            assert client.register("pc") == pc
        assert client.ask("c").startswith("T0b")
        for place in places[::-1]:
            client.ask("bc")
            assert client.place() == place
        client.ask(f"z0,{pc:x},4")
        assert fields(client.ask("bc"))["replaylog"] == "begin"


def test_who_wrote_a_word_of_the_shadow_stack_last(runs: Runs) -> None:
    """gdb takes a watchpoint of RISC-V to stop before the access, and steps over it itself."""
    with Client(runs["turns"]) as client:
        stop = client.ask("c")
        assert stop.startswith("T0b")  # SIGSEGV of task 102, see explain-fault
        ssp = client.register("ssp")
        client.ask(f"Z2,{ssp:x},8")
        stop = client.ask("bc")
        assert fields(stop) == {"watch": f"{ssp:x}", "thread": "p64.68"}
        assert client.place() == 5504
        client.ask("Hcp64.68")
        client.ask("bs")
        assert client.place() == 5503
        assert client.register("ssp") == ssp + 8
        forward = client.ask("c")
        assert (forward, client.place()) == (stop, 5503)
        assert client.ask("c").startswith("T0b")


@pytest.mark.parametrize(("kind", "name"), [(3, "rwatch"), (4, "awatch")])
def test_a_pop_is_a_read(runs: Runs, kind: int, name: str) -> None:
    cfi = Run.open(runs["pthread"]).table("cfi")
    pop = cfi.filter(kind="sspopchk").row(0, named=True)
    with Client(runs["pthread"]) as client:
        client.monitor(f"goto {(pop['seq'] >> 20) - 3}")
        client.ask(f"Z{kind},{pop['addr']:x},8")
        assert fields(client.ask("c"))[name] == f"{pop['addr']:x}"
        assert client.place() == pop["seq"] >> 20


def test_the_kernel_s_writes_are_writes_too(runs: Runs) -> None:
    """A token that a delivery pushes on the shadow stack."""
    signals = Run.open(runs["signals"]).table("signals")
    row = next(r for r in signals.iter_rows(named=True) if r["token_addr"])
    with Client(runs["signals"]) as client:
        client.monitor(f"goto {row['seq'] >> 20}.1")
        assert client.word(row["token_addr"]) == row["token_value"]
        client.ask(f"Z2,{row['token_addr']:x},8")
        stop = client.ask("bc")
        assert fields(stop)["watch"] == f"{row['token_addr']:x}"
        client.ask("bs")
        assert client.place() == row["seq"] >> 20
        assert client.word(row["token_addr"]) != row["token_value"]
        assert fields(client.ask("c"))["watch"] == f"{row['token_addr']:x}"
        assert client.place() == row["seq"] >> 20


def test_a_range_is_stepped_through(runs: Runs) -> None:
    with Client(runs["faulty"]) as client:
        pc = client.register("pc")
        client.ask(f"vCont;r{pc:x},{pc + 8:x}:p64.64")
        assert not pc <= client.register("pc") < pc + 8


def test_ctrl_c_ends_a_long_way(runs: Runs) -> None:
    with Client(runs["turns"]) as client:
        client.send(b"$bc#c5\x03")
        assert client.answer()[:3] in ("T05", "T02")
        client.send(b"\x03")
        assert client.answer().startswith("T02")


# ---- threads, processes, signals, calls ---------------------------------------------------------


def test_all_threads_of_v3_are_on_one_shadow_stack(runs: Runs) -> None:
    with Client(runs["turns"]) as client:
        client.ask("c")
        threads = client.threads()
        assert len(threads) == 4
        base = {client.register("ssp", thread) >> 12 for thread in threads}
        assert len(base) == 1
        listed = client.ask("qXfer:threads:read::0,ffff")
        assert "runs next, ssp 0x7ffff7ffefe8" in listed
        assert 'name="taking-turns.el"' in listed
        assert client.ask("Tp64.64") == "OK"
        assert client.ask("Tp64.99") == "E03"


def test_a_fault_is_a_signal_before_the_instruction(runs: Runs) -> None:
    with Client(runs["faulty"]) as client:
        assert client.ask("c").startswith("T0b")
        info = client.ask("qXfer:siginfo:read::0,80")[1:].encode("latin-1")
        assert struct.unpack_from("<iii", info) == (11, 0, 10)  # SIGSEGV, SEGV_CPERR
        assert "smashed" in client.monitor("where")
        assert "sspopchk found" in client.monitor("explain")
        assert fields(client.ask("c"))["replaylog"] == "end"


def test_signals_that_gdb_passes_do_not_stop(runs: Runs) -> None:
    with Client(runs["signals"]) as client:
        assert client.ask("c").startswith("T1e")  # SIGUSR1 is 30 in gdb's numbers, 10 on Linux
        client.ask("bc")
        client.ask("QPassSignals:1e;1f")
        assert fields(client.ask("c"))["replaylog"] == "end"
        client.ask("bc")
        client.ask("QPassSignals:a;c")  # gdb's SIGBUS and SIGSYS
        assert client.ask("c").startswith("T1e")


def test_forks_and_execs_are_events_if_gdb_knows_them(runs: Runs) -> None:
    with Client(runs["processes"]) as client:
        kinds = []
        while "replaylog" not in (stop := client.ask("c")):
            kinds += [stop if stop[0] == "W" else next(iter(fields(stop)))]
        assert kinds == [
            *("fork", "vfork", "W07;process:65", "vforkdone", "exec", "W0b;process:66"),
            *("fork", "exec", "W0d;process:67"),
        ]
        client.monitor("goto 5000")
        assert client.threads() == ["p64.64", "p67.67"]
        assert client.ask("qXfer:exec-file:read:67:0,100") == "l/processes.elf"
        assert client.ask("D;67") == "OK"
        assert client.threads() == ["p64.64"]
    with Client(runs["processes"], "multiprocess-") as client:
        assert fields(client.ask("c")) == {"replaylog": "end", "thread": "64"}


def test_system_calls_are_caught(runs: Runs) -> None:
    calls = Run.open(runs["pthread"]).table("syscalls")
    clones = [seq >> 20 for seq in calls.filter(name="clone")["seq"]]
    with Client(runs["pthread"]) as client:
        assert client.ask("QCatchSyscalls:1;dc") == "OK"
        for place in clones:
            assert fields(client.ask("c"))["syscall_entry"] == "dc"
            assert client.place() == place
            assert fields(client.ask("c"))["syscall_return"] == "dc"
            assert client.place() == place + 1
        assert fields(client.ask("bc"))["syscall_entry"] == "dc"
        client.ask("QCatchSyscalls:0")
        assert fields(client.ask("c"))["replaylog"] == "end"
        assert "caught" in client.monitor("catch exit_group")
        assert fields(client.ask("bc"))["replaylog"] == "begin"
        assert fields(client.ask("c")) == {"thread": "p64.64"}


# ---- files and monitor --------------------------------------------------------------------------


def test_files_of_the_guest_and_its_proc(runs: Runs) -> None:
    with Client(runs["pthread"]) as client:
        path = b"/pthread.elf".hex()
        assert client.ask("vFile:setfs:0") == "F0"
        assert client.ask(f"vFile:open:{path},0,0") == "F3"
        assert client.ask("vFile:pread:3,4,1").startswith("F4;ELF")
        assert client.ask("vFile:close:3") == "F0"
        assert client.ask("vFile:pread:3,4,1") == "F-1,9"
        assert client.ask(f"vFile:open:{path},1,0") == "F-1,1e"
        assert client.ask(f"vFile:open:{b'/etc/none'.hex()},0,0") == "F-1,2"
        maps = b"/proc/100/maps".hex()
        assert client.ask(f"vFile:open:{maps},0,0") == "F4"
        text = client.ask("vFile:pread:4,4000,0").partition(";")[2]
        assert text.startswith("01000000-01003000 r--p")
        assert client.monitor("maps") == text
        assert client.ask(f"vFile:readlink:{b'/proc/100/exe'.hex()}") == "Fc;/pthread.elf"


def test_monitor_answers(runs: Runs) -> None:
    with Client(runs["turns"]) as client:
        assert "before 1.0 of 5902.0: task 100 of 100" in client.monitor("where")
        assert "no shadow stack stands here" in client.monitor("stacks")
        assert "before 2014.0" in client.monitor("goto 2013.1")
        assert "before 2013.0" in client.monitor("goto 2013")
        assert client.place() == 2013
        assert "0x7ffff77ff000" in client.monitor("stacks 0x7ffff7ffefe8")
        assert "before 5902.0" in client.monitor("goto end")
        assert "sspopchk found" in client.monitor("explain")
        assert "no fault at 7.0" in client.monitor("explain 7")
        assert "the run ends at 5902.0" in client.monitor("goto 999999")
        assert "no such command" in client.monitor("fly")
        assert "usage: monitor goto" in client.monitor("goto")
        assert "not a seq" in client.monitor("goto x")
        assert "no system call is called fly" in client.monitor("catch fly")
        for name in ("where", "goto", "stacks", "explain", "catch", "maps"):
            assert f"monitor {name}" in client.monitor("help")


def test_to_look_changes_nothing(runs: Runs) -> None:
    """What was read on the way does not change what comes."""
    with Client(runs["processes"]) as client, Client(runs["processes"], MULTIPROCESS) as other:
        for place in (500, 1371, 3000):
            client.monitor(f"goto {place}")
            for name in ("maps", "smaps", "status", "stat", "statm", "cmdline"):
                path = f"/proc/100/{name}".encode().hex()
                fd = client.ask(f"vFile:open:{path},0,0")
                client.ask(f"vFile:pread:{fd[1:]},4000,0")
            client.ask("m7ffff7fff000,1000")
        client.monitor("goto 5000")
        other.monitor("goto 5000")
        assert state(client) == state(other)
