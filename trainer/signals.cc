// SPDX-License-Identifier: Apache-2.0
#include "trainer/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace farsight {
namespace {

std::atomic<int64_t> requested{0};

void raise_to(StopRequest request) {
  int64_t seen = requested.load();
  while (seen < static_cast<int64_t>(request) &&
         !requested.compare_exchange_weak(seen, static_cast<int64_t>(request))) {
  }
}

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  return set;
}

void watch_signals() {
  const sigset_t set = stop_signals();
  for (int received = 0; sigwait(&set, &received) == 0;) {
    if (received == SIGUSR1 || received == SIGUSR2) {
      raise_to(StopRequest::save);
    } else if (stop_request() == StopRequest::terminate) {
      _exit(143);
    } else {
      raise_to(StopRequest::terminate);
    }
  }
}

}  // namespace

void watch_stop_signals() {
  static std::atomic<bool> watching{false};
  if (watching.exchange(true)) return;
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread(watch_signals).detach();
}

StopRequest stop_request() { return static_cast<StopRequest>(requested.load()); }
void raise_stop_request(StopRequest request) { raise_to(request); }
void clear_stop_request() { requested.store(0); }

}  // namespace farsight
