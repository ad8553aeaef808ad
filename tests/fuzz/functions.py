"""Functions of a user that hand out odd things, raise or never end."""

from __future__ import annotations

__all__ = ["FEEDS", "HEAD", "METRICS"]

HEAD = """
import itertools, sys, time
from collections.abc import Mapping
import numpy as np
x = np.ones((2, 32), np.float32)
class Odd:
    def __array__(self, *args, **options): raise ZeroDivisionError("in __array__")
class Raises(Mapping):
    def __getitem__(self, key): raise RuntimeError("in __getitem__")
    def __iter__(self): return iter(["x"])
    def __len__(self): return 1
class Endless(Mapping):
    def __getitem__(self, key): return x
    def __iter__(self): return (str(i) for i in itertools.count())
    def __len__(self): return 1
class Text(str):
    def __eq__(self, other): raise ValueError("in __eq__")
    __hash__ = str.__hash__
class Huge:
    shape = (2**40, 32)
    dtype = np.dtype("float32")
    ndim = 2
    def __len__(self): return 2**40
    def __getitem__(self, key): return x[0]
class Quiet(Exception):
    def __str__(self): raise ValueError("in __str__")
class Lines(Exception):
    def __str__(self): return "one\\ntwo\\x1b[31m " + "y" * 10000
"""
"""What the bodies below may use; the model has one input ``x`` of float32, (N, 32)."""

FEEDS = (
    "yield {'x': x}",
    "yield {1: x}",
    "yield {b'x': x}",
    "yield {None: x}",
    "yield {Text('x'): x}",
    "yield {'x': Odd()}",
    "yield Raises()",
    "yield Endless()",
    "yield {'x': Huge()}",
    "yield {'x': None}",
    "yield {'x': object()}",
    "yield {'x': [[1.0] * 32, [2.0]]}",
    "yield {'x': x.astype(object)}",
    "yield {'x': x.astype('U3')}",
    "yield {'x': x.astype('float64') * 1e300}",
    "yield {'x': x.astype('complex64')}",
    "yield {'x': np.ma.masked_array(x, x > 0)}",
    "yield {'x': np.broadcast_to(np.float32(1), (2**33, 32))}",
    "yield {'x': np.broadcast_to(np.float32(1), (2**14, 32))}",
    "yield {'x': np.lib.stride_tricks.as_strided(x, (10**10, 32), (0, 4))}",
    "yield {'x': np.zeros((0, 32), 'float32')}",
    "yield {'x': np.matrix(x)}",
    "yield {'x': x, 'labels': x}",
    "yield {'x': x, 'labels': 'text'}",
    "yield {'x': x, 'labels': [0, 2**70]}",
    "yield {'labels': [0, 1]}",
    "yield {}",
    "yield x",
    "yield [x]",
    "yield (x, x)",
    "yield None",
    "yield 'x'",
    "yield 7",
    "yield dict",
    "yield {'x': x}; yield {'y': x}",
    "yield {'x': x}; yield {'x': x[:, :31]}",
    "yield {'x': x}; yield {'x': x, 'labels': [0, 1]}",
    "yield {'x': x}; raise ValueError('late')",
    "x[0] = 5; yield {'x': x}; x[0] = np.nan; yield {'x': x}",
    "return {'x': x}",
    "return [{'x': x}]",
    "return None",
    "return 7",
    "return 'text'",
    "return itertools.repeat({'x': x})",
    "return itertools.count()",
    "return samples",
    "raise ValueError('early')",
    "raise Quiet()",
    "raise Lines()",
    "raise KeyboardInterrupt",
    "raise SystemExit(0)",
    "raise SystemExit('text')",
    "raise GeneratorExit",
    "raise StopIteration",
    "raise MemoryError",
    "raise RecursionError('deep')",
    "raise BaseException('base')",
    "raise BrokenPipeError",
    "raise OSError(28, 'No space left on device')",
    "raise FileNotFoundError(2, 'No such file', 'other.npz')",
    "sys.exit(3)",
    "samples()",
    "yield from samples()",
    "while True: yield {'x': x}",
    "while True: yield {}",
    "while True: yield {'x': x[:0]}",
    "while True: yield {'x': np.ones((200000, 32), np.float32)}",
    "yield {'x': np.ones((2**16, 32), np.float64)}",
    "print('to the user'); yield {'x': x}",
    "sys.stdout.close(); yield {'x': x}",
    "sys.stderr = None; yield {'x': x}",
    "np.seterr(all='raise'); yield {'x': x}",
    "import warnings; warnings.warn('hm'); yield {'x': x}",
    "import os; os.chdir('/'); yield {'x': x}",
)
"""Bodies of ``samples()``."""

METRICS = (
    "return 0.5",
    "return None",
    "return 'text'",
    "return float('nan')",
    "return float('inf')",
    "return [1, 2]",
    "return np.ones(3)",
    "return 10**400",
    "return 1j",
    "return np.float16(0.5)",
    "return True",
    "return outputs",
    "raise ValueError('in the metric')",
    "raise Quiet()",
    "raise Lines()",
    "raise SystemExit(4)",
    "raise KeyboardInterrupt",
    "raise GeneratorExit",
    "outputs.clear(); return 1.0",
    "del labels[:]; return 1.0",
    "yield 1",
    "sys.exit(0)",
)
"""Bodies of ``metric(outputs, labels)``."""
