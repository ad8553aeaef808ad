"""Products of matrices stay in the thread that asks for them, for as long as it is asked."""

from __future__ import annotations

from threadpoolctl import threadpool_info, threadpool_limits

from graphopt.runtime.blas import one_blas_thread


def _threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_one_thread_and_then_as_many_as_before() -> None:
    one_blas_thread()  # numpy's library and scipy's are loaded from here on
    with threadpool_limits(3, user_api="blas"):
        before = _threads()
        for _ in range(2):
            with one_blas_thread():
                assert _threads() <= {1}
            assert _threads() == before
