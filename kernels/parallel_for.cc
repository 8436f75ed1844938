// SPDX-License-Identifier: Apache-2.0
#include "kernels/parallel_for.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#if defined(__SANITIZE_THREAD__)
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#define FARSIGHT_RELEASE(address) __tsan_release(address)
#define FARSIGHT_ACQUIRE(address) __tsan_acquire(address)
#define FARSIGHT_NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define FARSIGHT_RELEASE(address) static_cast<void>(address)
#define FARSIGHT_ACQUIRE(address) static_cast<void>(address)
#define FARSIGHT_NO_TSAN
#endif

namespace farsight {
namespace {

struct Team {
  RangeFunction body;
  int64_t n;
  int parts;
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  int failed_part = -1;
  std::exception_ptr error;
  char fork = 0;
  char join = 0;
};

void keep_error(Team& team, int part) {
  std::lock_guard lock(team.mutex);
  if (team.failed_part < 0 || part < team.failed_part) {
    team.failed_part = part;
    team.error = std::current_exception();
  }
}

void run_part(Team& team, int part) {
  try {
    team.body(team.n * part / team.parts, team.n * (part + 1) / team.parts);
  } catch (...) {
    keep_error(team, part);
  }
}

void run_tasks(Team& team, int part) {
  try {
    for (int64_t i = team.next.fetch_add(1); i < team.n; i = team.next.fetch_add(1)) team.body(i, i + 1);
  } catch (...) {
    keep_error(team, part);
  }
}

// Not instrumented: libgomp's own synchronisation is invisible to ThreadSanitizer, the announced fork and join stand
// for it.
FARSIGHT_NO_TSAN void fork_team(Team* team, void (*run)(Team&, int)) {
  FARSIGHT_RELEASE(&team->fork);
#pragma omp parallel num_threads(team->parts) default(none) shared(team, run)
  {
    FARSIGHT_ACQUIRE(&team->fork);
    // The runtime may give fewer threads than asked for (OMP_THREAD_LIMIT): every part is still run.
    for (int part = omp_get_thread_num(); part < team->parts; part += omp_get_num_threads()) run(*team, part);
    FARSIGHT_RELEASE(&team->join);
  }
  FARSIGHT_ACQUIRE(&team->join);
}

}  // namespace

void parallel_for(int64_t n, int64_t grain, RangeFunction body) {
  if (n <= 0) return;
  const int64_t wanted = std::max<int64_t>(1, n / std::max<int64_t>(1, grain));
  const int parts = static_cast<int>(std::min<int64_t>(wanted, thread_count()));
  if (parts <= 1) {
    body(0, n);
    return;
  }
  Team team{body, n, parts, {}, {}, -1, {}, 0, 0};
  fork_team(&team, run_part);
  if (team.error) std::rethrow_exception(team.error);
}

void parallel_tasks(int64_t tasks, RangeFunction body) {
  if (tasks <= 0) return;
  const int parts = static_cast<int>(std::min<int64_t>(tasks, thread_count()));
  if (parts <= 1) {
    for (int64_t i = 0; i < tasks; ++i) body(i, i + 1);
    return;
  }
  Team team{body, tasks, parts, {}, {}, -1, {}, 0, 0};
  fork_team(&team, run_tasks);
  if (team.error) std::rethrow_exception(team.error);
}

int thread_count() { return omp_in_parallel() ? 1 : omp_get_max_threads(); }
void set_thread_count(int threads) { omp_set_num_threads(std::max(1, threads)); }
int thread_index() { return omp_get_thread_num(); }

}  // namespace farsight
