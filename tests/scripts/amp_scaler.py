"""Mixed precision on the CPU: a scaled loss, the head in bfloat16, gradients unscaled, clipped."""

import torch
from torch import nn

torch.manual_seed(0)
rnn, head = nn.GRU(6, 14, batch_first=True), nn.Linear(14, 2)
optimizer = torch.optim.AdamW([*rnn.parameters(), *head.parameters()], lr=1e-2)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)
for step in range(12):
    x, y = torch.randn(8, 21, 6), torch.randint(0, 2, (8,))
    hidden = rnn(x)[0][:, -1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(head(hidden), y)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_([*rnn.parameters(), *head.parameters()], 0.1)
    scaler.step(optimizer)
    scaler.update()
    print(step, loss.item(), norm.item(), scaler.get_scale())
torch.save([rnn.state_dict(), head.state_dict(), scaler.state_dict()], "all.pt")
print(torch.randn(2))
