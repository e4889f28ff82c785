"""Writes to standard output by every way there is, and cleans up behind itself."""

import ctypes
import os
import subprocess
import sys

import torch
from torch import nn

rnn = nn.RNN(2, 4)
optimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)
print("from Python")
sys.stdout.flush()
os.write(1, b"from the descriptor\n")
ctypes.CDLL(None).puts(b"from C")
ctypes.CDLL(None).fflush(None)
subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
try:
    for step in range(1000):
        optimizer.zero_grad()
        rnn(torch.randn(6, 2, 2))[0].sum().backward()
        try:
            optimizer.step()
        except Exception:
            print("swallowed")
finally:
    print("cleaned up after step", step)
