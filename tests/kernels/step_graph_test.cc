// SPDX-License-Identifier: Apache-2.0
// Steps that are recorded and handed to the device as one graph, against the same steps operation by operation.
#include "kernels/cuda/step_graph.h"

#include "kernels/cuda/library.h"
#include "kernels/download.h"
#include "kernels/error.h"
#include "kernels/totals.h"
#include "tests/kernels/gradient_check.h"

namespace farsight {
namespace {

using namespace farsight::testing;

class StepGraphs : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_library().devices == 0) GTEST_SKIP() << cuda_library().reason;
    device_.emplace(0);
    scope_.emplace(*device_);
  }
  std::optional<CudaDevice> device_;
  std::optional<CudaScope> scope_;
};

// Uploads numbers that the host forgets at once, makes room and uses it again, and adds up; `extra` operations more.
void step(int64_t number, const Tensor& state, int64_t extra = 0) {
  for (int64_t i = 0; i < 3; ++i) {
    std::vector<float> told(1000, static_cast<float>(10 * number + i));
    const Tensor here = device_copy(told);
    std::fill(told.begin(), told.end(), -1.0F);
    const Tensor twice = here.clone();
    add_rows(here, twice);
    add_rows(twice, state);
  }
  for (int64_t i = 0; i < extra; ++i) add_rows(state, state);
}

TEST_F(StepGraphs, DoWhatTheOperationsDoAndFollowTheirArguments) {
  const Tensor one = Tensor::zeros({1000}), other = Tensor::zeros({1000});
  StepGraph graph(*device_);
  std::vector<Download> seen;
  for (int64_t n = 0; n < 5; ++n) {
    step(n, one);
    graph.run([&] { step(n, other); });
    seen.emplace_back(other);  // read later: the next step must not reach it
  }
  EXPECT_EQ(to_vec(one), to_vec(other));
  EXPECT_EQ(graph.launches(), 5);
  EXPECT_EQ(graph.made(), 1);
  double expected = 0.0;
  for (int64_t n = 0; n < 5; ++n) {
    expected += 2.0 * (3.0 * 10.0 * static_cast<double>(n) + 3.0);
    EXPECT_EQ(static_cast<double>(seen[static_cast<size_t>(n)].wait().data<float>()[999]), expected) << n;
  }
}

TEST_F(StepGraphs, AreMadeAnewForOtherOperations) {
  const Tensor one = Tensor::zeros({1000}), other = Tensor::zeros({1000});
  StepGraph graph(*device_);
  for (const int64_t extra : {0, 0, 2, 2, 0}) {
    step(1, one, extra);
    graph.run([&] { step(1, other, extra); });
  }
  EXPECT_EQ(to_vec(one), to_vec(other));
  EXPECT_EQ(graph.made(), 3);
}

TEST_F(StepGraphs, AStepThatFailsLeavesNothingBehind) {
  const Tensor state = Tensor::zeros({1000});
  StepGraph graph(*device_);
  EXPECT_THROW(graph.run([&] {
    step(1, state);
    fail(ErrorKind::data, "a label out of range");
  }),
               Error);
  EXPECT_EQ(to_vec(state), Vec(1000, 0.0));
  EXPECT_EQ(graph.launches(), 0);
  graph.run([&] { step(0, state); });
  EXPECT_EQ(to_vec(state), Vec(1000, 6.0));
}

TEST_F(StepGraphs, WaitingInsideIsAnErrorThatSaysSo) {
  const Tensor state = Tensor::zeros({1000});
  StepGraph graph(*device_);
  for (const std::function<void()>& wait :
       {std::function<void()>([&] { state.to(Device::cpu); }), std::function<void()>([&] { device_->synchronize(); }),
        std::function<void()>([&] { Download(state).wait(); }), std::function<void()>([&] { graph.run([] {}); })}) {
    try {
      graph.run(wait);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("recorded"), std::string::npos) << error.what();
    }
  }
  graph.run([&] { step(0, state); });
  EXPECT_EQ(to_vec(state), Vec(1000, 6.0));
}

TEST_F(StepGraphs, DownloadsThatNobodyReadsDoNoHarm) {
  const Tensor state = device_copy(std::vector<float>(1000, 2.0F));
  for (int i = 0; i < 3; ++i) Download forgotten(state);
  Download kept(state);
  kept = Download(state);
  Download moved = std::move(kept);
  EXPECT_FALSE(kept.defined());  // NOLINT(bugprone-use-after-move): what it promises
  EXPECT_EQ(moved.wait().data<float>()[999], 2.0F);
  EXPECT_EQ(moved.wait().data<float>()[0], 2.0F);
}

}  // namespace
}  // namespace farsight
