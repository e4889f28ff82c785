"""Everything a script may ask about how it was started, and leave behind when it ends."""

import importlib.util
import os
import sys

if __name__ == "__main__":  # a spawned child runs this file under another name
    here = sorted(globals())
    print(__name__, __file__, __package__, __spec__, __doc__[:10], here, __builtins__.__name__)
    print(sys.argv, sys.path[0], sys.flags.safe_path, "numpy" in sys.modules)
    print("torch is there:", bool(importlib.util.find_spec("torch")), "torch" in sys.modules)
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, or it has no effect

import atexit
import multiprocessing
import pickle
import subprocess
import traceback

import sibling  # stands beside this file


class Settings:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Settings) and self.value == other.value

    __hash__ = None


def double(settings):
    return Settings(2 * settings.value)


def train():
    import torch
    from torch import nn

    torch.manual_seed(0)
    print("threads", torch.get_num_threads(), torch.__spec__.loader.__class__.__name__)
    rnn = nn.RNN(3, 8)
    optimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        rnn(torch.randn(9, 2, 3))[0][-1].sum().backward()
        optimizer.step()
    return rnn.weight_hh_l0.detach().sum().item()


def at_exit():
    with open("settings.pickle", "wb") as file:
        pickle.dump(Settings("kept"), file)
    print("at exit", pickle.loads(open("settings.pickle", "rb").read()) == Settings("kept"))


def leave(how):
    sys.stdout.flush()
    if how == "string":
        sys.exit("a string to end with")
    if how == "raise":
        raise LookupError("the script's own")
    if how == "hard":
        os._exit(5)
    if how == "chained":
        try:
            {}["missing"]
        except KeyError as error:
            raise RuntimeError("out of another") from error
    sys.exit(int(how))


if __name__ == "__main__":
    atexit.register(at_exit)
    print("sibling", sibling.NAME, pickle.loads(pickle.dumps(Settings(3))) == Settings(3))
    print("trained", train())
    for method in sys.argv[2:]:
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.map(double, [Settings(21)]) == [Settings(42)])
    if sys.argv[2:]:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            print("a child that runs to its end", train())
            sys.exit(9)
        print("the child's exit code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True).stdout)
    try:
        import torch

        (torch.ones(1, requires_grad=True) * 2).detach().backward()
    except RuntimeError as error:
        print("caught", traceback.extract_tb(error.__traceback__)[0].line)
    leave(sys.argv[1])
