# What `shstk debug` tells gdb before it connects.
set architecture riscv:rv64
set pagination off
set confirm off
# The server reads the run before it answers.
set remotetimeout 60

# gdb does not know that `monitor goto` moves: it would show the registers of where it was.
define shstk-moved
  maintenance flush register-cache
  maintenance flush dcache
end
define hookpost-monitor
  shstk-moved
end

# The last command: a gdb without Python has its own way above, and stops reading here.
python
class Moved(gdb.Command):
    """Forget what was read before `monitor goto`: registers, threads, the program, its libraries.
    Then choose the thread that runs next."""

    def __init__(self):
        super().__init__("shstk-moved", gdb.COMMAND_OBSCURE)

    def invoke(self, words, from_tty):
        gdb.execute("maintenance flush register-cache", to_string=True)
        gdb.execute("maintenance flush dcache", to_string=True)
        gdb.execute("info threads", to_string=True)  # finds those that began and ended
        for thread in [thread for inf in gdb.inferiors() for thread in inf.threads()]:
            if (thread.details or "").startswith("runs next"):
                thread.switch()
        self.read_program(gdb.selected_inferior())

    def read_program(self, inferior):
        if not hasattr(inferior.connection, "send_packet"):
            return  # gdb 11, or it has let the run go
        answer = inferior.connection.send_packet(f"qXfer:exec-file:read:{inferior.pid:x}:0,1000")
        program = "target:" + (answer or b"")[1:].decode(errors="surrogateescape")
        if answer and answer[:1] == b"l" and program != inferior.progspace.filename:
            gdb.execute(f"file {program}")
        gdb.execute("sharedlibrary", to_string=True)  # those that are loaded here

Moved()
end
