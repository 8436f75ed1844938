// SPDX-License-Identifier: Apache-2.0
// The only door to OpenMP. All threading of one rank goes through parallel_for; nothing else uses a pragma, because
// ThreadSanitizer cannot see libgomp's barriers and must be told about fork and join in one place.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace farsight {

// Non-owning reference to a callable void(int64_t begin, int64_t end); valid during the call only.
class RangeFunction {
 public:
  template <typename F, typename = std::enable_if_t<!std::is_same_v<std::decay_t<F>, RangeFunction>>>
  RangeFunction(F&& f)  // NOLINT(google-explicit-constructor): call sites pass lambdas
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, int64_t begin, int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}
  void operator()(int64_t begin, int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, int64_t, int64_t);
};

// Runs body over [0, n) cut into one contiguous range per thread (ranges of at least `grain`), and returns when all
// are done. Ranges depend only on n, grain and the thread count, so results are repeatable. Serial inside another
// parallel_for. An exception in any range is rethrown here (the one of the lowest range).
void parallel_for(int64_t n, int64_t grain, RangeFunction body);

// The same for `tasks` of unequal cost: thread takes the next index when free, body(i, i + 1). Only for bodies whose
// result does not depend on which thread runs them.
void parallel_tasks(int64_t tasks, RangeFunction body);

// Threads that parallel_for uses when called from this thread; set_thread_count also acts on this thread only.
int thread_count();
void set_thread_count(int threads);
// Index of the calling thread inside the running parallel_for, 0 outside: for per-thread scratch.
int thread_index();

}  // namespace farsight
