"""Ends in the way it is told; needs no torch."""

import atexit
import os
import sys
import warnings

how, *rest = sys.argv[1:]
atexit.register(print, "at exit")
print("begun", __file__, sys.argv, rest, flush=True)


def hook(kind, error, trace):
    print("my hook", kind.__name__, error, trace.tb_frame.f_code.co_name, trace.tb_next)


def fail():
    raise LookupError("the script's own")


if how == "code":
    sys.exit(None if rest[0] == "None" else int(rest[0]))
if how == "string":
    sys.exit("a string to end with")
if how == "raise":
    fail()
if how == "chained":
    try:
        {}["missing"]
    except KeyError as error:
        raise RuntimeError("out of another") from error
if how == "group":
    raise ExceptionGroup("several", [ValueError("one"), OSError("two")])
if how == "hook":
    sys.excepthook = hook
    raise LookupError("the script's own")
if how == "broken-hook":
    sys.excepthook = lambda *_: 1 / 0
    raise LookupError("the script's own")
if how == "hard":
    os._exit(5)
if how == "warn":
    warnings.warn("look here", DeprecationWarning, stacklevel=1)
if how == "import":
    import no_such_module_at_all
if how == "stdout":
    sys.stdout.flush()
    sys.stdout = open("redirected.txt", "w")
    sys.stderr = open("errors.txt", "w")
    print("into a file")
    sys.stdout.close()
if how == "encoding":
    print("ŷ")
if how == "many":
    for number in range(100_000):
        print(number)
print("ended")
