"""PyTorch: tensors made once, batches by index, fused optimizers, and the better of one thread and all.

The loss of every batch is summed up without leaving the tensor, as a user who prints one line per epoch would do.
"""

import time

import torch
from torch import nn
from torch.nn import functional as F

from peers.workloads import ALPHA, BETA_1, BETA_2, EPSILON, initial_weights

VERSION = torch.__version__
ACTIVATIONS = {"identity": nn.Identity, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def thread_choices(threads: int) -> list[int]:
    return sorted({1, threads})


def half_squared_error(output, target):
    return 0.5 * ((output - target) ** 2).sum(1).mean()


LOSSES = {
    "softmax": F.cross_entropy,
    "logistic": F.binary_cross_entropy_with_logits,
    "identity": half_squared_error,
}


class TorchJob:
    def __init__(self, workload, X, y, threads):
        self.workload, self.threads = workload, threads
        self.X = torch.from_numpy(X)
        target = torch.from_numpy(y)
        self.y = target if workload.output == "softmax" else target.to(torch.float32).reshape(len(y), -1)
        self.loss = LOSSES[workload.output]
        self.model = self._model()

    def _model(self):
        coefs, intercepts = initial_weights(self.workload)
        layers = []
        for W, b in zip(coefs, intercepts, strict=True):
            layer = nn.Linear(*W.shape)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(W.T))
                layer.bias.copy_(torch.from_numpy(b))
            layers += [layer, ACTIVATIONS[self.workload.activation]()]
        return nn.Sequential(*layers[:-1])

    def _optimizer(self):
        w = self.workload
        linear = [layer for layer in self.model if isinstance(layer, nn.Linear)]
        groups = [
            {"params": [layer.weight for layer in linear], "weight_decay": ALPHA / w.batch_rows},
            {"params": [layer.bias for layer in linear], "weight_decay": 0.0},
        ]
        if w.solver == "adam":
            return torch.optim.Adam(groups, lr=w.rate, betas=(BETA_1, BETA_2), eps=EPSILON, fused=True)
        return torch.optim.SGD(groups, lr=w.rate, momentum=w.momentum, nesterov=w.momentum > 0, fused=True)

    def run(self, epochs: int) -> float:
        torch.set_num_threads(self.threads)
        if self.workload.kind == "predict":
            return self._predict(epochs)
        torch.manual_seed(0)
        self.model = self._model()
        optimizer = self._optimizer()
        start = time.perf_counter()
        for _ in range(epochs):
            self._epoch(optimizer)
        return time.perf_counter() - start

    def _epoch(self, optimizer):
        X, y, model, loss_of, batch = self.X, self.y, self.model, self.loss, self.workload.batch_rows
        total = torch.zeros(())
        for rows in torch.randperm(len(X)).split(batch):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(X[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        return total.item() / len(X)

    def _predict(self, times: int) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(times):
                torch.softmax(self.model(self.X), dim=1).numpy()
        return time.perf_counter() - start

    def weights(self):
        linear = [layer for layer in self.model if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            return [layer.weight.numpy().T for layer in linear], [layer.bias.numpy() for layer in linear]


def make_job(workload, X, y, threads: int):
    if workload.data == "words" or workload.kind == "search":
        raise NotImplementedError("no sparse input, no searches")
    return TorchJob(workload, X, y, threads)
