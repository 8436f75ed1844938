// SPDX-License-Identifier: Apache-2.0
// main() of the tests that run under mpirun: one session for all cases; a failed case ends the job, because the ranks
// are out of step after it. Words after the options of GoogleTest: "messages" sends everything in messages, "windows"
// the smallest collectives through shared memory too, in many small steps.
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string_view>

#include <gtest/gtest.h>

#include "parallel/mpi_comm.h"
#include "tests/parallel/mpi_world.h"

namespace farsight::testing {

namespace {

Communicator* current_world = nullptr;

class EndJobOnFailure : public ::testing::EmptyTestEventListener {
 public:
  explicit EndJobOnFailure(Communicator& world) : world_(world) {}
  void OnTestEnd(const ::testing::TestInfo& info) override {
    if (!info.result()->Failed()) return;
    std::printf("rank %d of %d: %s failed\n", world_.rank(), world_.size(), info.name());
    std::fflush(stdout);
    world_.abort(1);
  }

 private:
  Communicator& world_;
};

}  // namespace

Communicator& mpi_world() { return *current_world; }

}  // namespace farsight::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  farsight::CommOptions options;
  options.piece_bytes = 100000;  // messages of the tests are longer: the splitting runs over MPI too
  const std::string_view path = argc > 1 ? argv[1] : "";
  if (path == "messages") options.shared_bytes = std::numeric_limits<int64_t>::max();
  if (path == "windows") {
    options.shared_bytes = 1;
    options.window_bytes = 16384;
  }
  farsight::MpiSession session(&argc, &argv, options);
  farsight::testing::current_world = &session.world();
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (session.world().rank() != 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new farsight::testing::EndJobOnFailure(session.world()));
  return RUN_ALL_TESTS();
}
