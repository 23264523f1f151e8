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
    """Forget what was read before `monitor goto`, and choose the thread that runs next."""

    def __init__(self):
        super().__init__("shstk-moved", gdb.COMMAND_OBSCURE)

    def invoke(self, words, from_tty):
        gdb.execute("maintenance flush register-cache", to_string=True)
        gdb.execute("maintenance flush dcache", to_string=True)
        gdb.execute("info threads", to_string=True)  # finds those that began and ended
        for inferior in gdb.inferiors():
            for thread in inferior.threads():
                if (thread.details or "").startswith("runs next"):
                    thread.switch()

Moved()
end
