#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# Python's own tests of threads, queues, sockets and pools (Debian's libpython3.11-testsuite).  The verdict of each is to be that of the plain run.  Left out:
#   test_threadsignals          of main in a lock: signals end waits there only as far as docs/free.md says
#   test_socket                 but for some classes: it needs networks (vsock, CAN, Bluetooth) that make it wait plain as well
#   test_concurrent_futures     of processes: they are not threads, and take minutes; of threads it is here
#   test_threading              of subinterpreters, of fork in a thread, and more that take long
#   *timeout*, test_hang_global_shutdown_lock: they time themselves, and fail or wait long on a busy machine
#   mode off                    it leaves threads alone
# Signals by themselves are in tests/integration/test_pthreads.py.
# timeout: 240
# shellcheck disable=SC2034  # lib.sh reads it
APPS_MODES="locked free"
. "$(dirname "$0")/lib.sh"
python=/usr/bin/python3
[ -x "$python" ] || { echo "no /usr/bin/python3"; exit 77; }
"$python" -c 'import test.test_threading' 2>/dev/null || { echo "Python's tests are not installed (libpython3-testsuite)"; exit 77; }

# The verdict of each test, in their order.  What the tests themselves print is of no interest: it tells of times and turns.
run='
import io, os, sys, unittest
out = os.fdopen(os.dup(1), "w", buffering=1)
null = os.open("/dev/null", os.O_WRONLY)
os.dup2(null, 1), os.dup2(null, 2)
def timed(test): return "timeout" in test.id() or "test_hang_global" in test.id()
class Result(unittest.TextTestResult):
    def say(self, test, what): print(test.id(), what, file=out)
    def addSuccess(self, test): self.say(test, "ok")
    def addFailure(self, test, err): self.say(test, "FAIL " + str(err[1]).splitlines()[0])
    def addError(self, test, err): self.say(test, "ERROR " + repr(err[1]))
    def addSkip(self, test, why): self.say(test, "skipped")
    def addSubTest(self, test, sub, err): err and self.addFailure(test, err)
def timely(suite):
    for t in suite:
        if isinstance(t, unittest.TestSuite): yield from timely(t)
        elif not timed(t): yield t
suite = unittest.TestSuite(timely(unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:])))
unittest.TextTestRunner(stream=io.StringIO(), resultclass=Result, verbosity=0).run(suite)
'
suite() { # suite NAME TEST...
  same "$1" "$python" -c "$run" "${@:2}"
}

suite threading test.test_threading.LockTests test.test_threading.CRLockTests test.test_threading.EventTests \
  test.test_threading.ConditionTests test.test_threading.SemaphoreTests test.test_threading.BarrierTests test.test_threading.TimerTests \
  test.test_threading.ThreadTests.test_various_ops test.test_threading.ThreadTests.test_various_ops_small_stack \
  test.test_threading.ThreadTests.test_foreign_thread test.test_threading.ThreadTests.test_enumerate_after_join \
  test.test_threading.ThreadTests.test_dummy_thread_after_fork test.test_threading.ThreadTests.test_main_thread_after_fork_from_nonmain_thread
suite thread test.test_thread test.test_threading_local
suite queue test.test_queue.CSimpleQueueTest test.test_queue.CPriorityQueueTest.test_basic
suite socket test.test_socket.BasicTCPTest test.test_socket.BasicSocketPairTest test.test_socket.NonBlockingTCPTests
suite thread_pool test.test_concurrent_futures.ThreadPoolExecutorTest test.test_concurrent_futures.ThreadPoolInitializerTest
suite asyncio test.test_asyncio.test_threads test.test_asyncio.test_queues
