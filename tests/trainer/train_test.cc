// SPDX-License-Identifier: Apache-2.0
// Whole runs on in-process ranks: stop and resume, in the same and in another layout; refusals; what a run leaves
// behind.
#include "trainer/train.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/parity/parity_case.h"
#include "trainer/signals.h"
#include "trainer/trained_model.h"

namespace farsight {
namespace {

namespace fs = std::filesystem;

class Training : public testing::Test {
 protected:
  void SetUp() override {
    clear_stop_request();
    folder_ = fs::path(testing::TempDir()) /
              ("train-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override {
    clear_stop_request();
    fs::remove_all(folder_);
  }

  std::string dir(const std::string& name) const { return (folder_ / name).string(); }

  TrainRequest request(const std::string& run, std::vector<std::string> overrides,
                       const std::string& resume = "never") const {
    const std::string text =
        "[data]\ntrain = [\"" + generated_corpus() +
        "\"]\nsequence = 48\n[model]\nlayers = 2\nwidth = 32\nheads = 2\n"
        "dropout = 0.1\n[attention]\ndropout = 0.1\n[train]\nsteps = \"12 steps\"\nbatch = \"4 "
        "samples\"\n[eval]\nevery = \"0 steps\"\n"
        "[checkpoint]\nevery = \"4 steps\"\n[log]\nevery = \"1 steps\"\n[guard]\nwatchdog = \"60s\"\n";
    overrides.push_back("run.dir=" + dir(run));
    TrainRequest r;
    r.config = parse_config(text, "test.toml", overrides);
    r.resume = parse_resume(resume);
    r.files.train = {probe_corpus(generated_corpus())};
    return r;
  }

  TrainOutcome train_on(int ranks, const TrainRequest& r) {
    TrainOutcome outcome;
    std::mutex mutex;
    said_.str("");
    run_in_process(ranks, [&](Communicator& world) {
      std::ostringstream quiet;
      const auto mine = train(world, r, world.rank() == 0 ? static_cast<std::ostream&>(said_) : quiet);
      if (world.rank() != 0) return;
      std::lock_guard lock(mutex);
      outcome = mine;
    });
    return outcome;
  }

  // step -> loss of the training split; fails on a step that appears twice.
  std::map<int64_t, double> losses(const std::string& run) const {
    std::map<int64_t, double> out;
    std::ifstream in(dir(run) + "/metrics.jsonl");
    for (std::string line; std::getline(in, line);) {
      const auto j = nlohmann::json::parse(line);
      if (j.at("split") != "train") continue;
      EXPECT_TRUE(out.emplace(j.at("step").get<int64_t>(), j.at("loss").get<double>()).second) << line;
    }
    return out;
  }

  std::vector<float> weights(const std::string& run) const {
    const auto reference = find_run(dir(run));
    auto trained = load_trained_model(reference, run_config(reference));
    const auto values = trained.model->parameters().values().span<float>();
    return {values.begin(), values.end()};
  }

  int64_t exit_record(const std::string& run) const {
    std::ifstream in(dir(run) + "/exit.json");
    return nlohmann::json::parse(in).at("code").get<int64_t>();
  }

  fs::path folder_;
  std::ostringstream said_;
};

TEST_F(Training, ResumeIsBitIdenticalToAnUninterruptedRun) {
  train_on(2, request("whole", {"parallel.ring=2"}));
  auto half = request("parts", {"parallel.ring=2"});
  // Stop on request after the first step of the second half: a save at that step, exit 85.
  raise_stop_request(StopRequest::save);
  const auto stopped = train_on(2, half);
  EXPECT_EQ(stopped.exit_code, 85);
  EXPECT_EQ(stopped.step, 1);
  EXPECT_EQ(exit_record("parts"), 85);
  clear_stop_request();
  const auto finished = train_on(2, request("parts", {"parallel.ring=2"}, "auto"));
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(exit_record("parts"), 0);
  EXPECT_EQ(losses("whole"), losses("parts"));
  EXPECT_EQ(weights("whole"), weights("parts"));
}

TEST_F(Training, ResumeInAnotherLayoutGoesOnWithTheSameNumbers) {
  train_on(1, request("whole", {}));
  const auto expected = losses("whole");
  int number = 0;
  for (const auto& [ranks, layout] : std::vector<std::pair<int, std::vector<std::string>>>{
           {2, {"parallel.ring=2"}}, {3, {"parallel.ring=3"}}, {4, {"parallel.ring=2", "parallel.data=2"}}, {1, {}}}) {
    const std::string run = "parts" + std::to_string(number++);
    raise_stop_request(StopRequest::save);
    train_on(2, request(run, {"parallel.data=2"}));
    clear_stop_request();
    train_on(ranks, request(run, layout, "auto"));
    const auto found = losses(run);
    ASSERT_EQ(found.size(), expected.size());
    EXPECT_NEAR(found.at(2) / expected.at(2), 1.0, 1e-6) << run;
    for (const auto& [step, loss] : expected) EXPECT_NEAR(found.at(step) / loss, 1.0, 1e-4) << run << " step " << step;
  }
}

TEST_F(Training, DamagedNewestCheckpointFallsBackOneAndSaysSo) {
  train_on(1, request("run", {}));
  const auto expected = losses("run");
  const auto before = weights("run");
  // The final state is step 12; damage it: resume starts from step 8 and reaches the same end.
  const fs::path newest = fs::path(dir("run")) / "checkpoints" / "step-00000012";
  for (const auto& entry : fs::directory_iterator(newest)) {
    if (entry.path().extension() == ".fss") fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
  }
  const auto outcome = train_on(1, request("run", {}, "auto"));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(said_.str().find("step 12 rejected"), std::string::npos) << said_.str();
  EXPECT_NE(said_.str().find("resumed from"), std::string::npos);
  EXPECT_EQ(losses("run"), expected);
  EXPECT_EQ(weights("run"), before);
}

TEST_F(Training, RefusesADirectoryWithCheckpointsUnlessToldToResume) {
  train_on(1, request("run", {}));
  const auto before = weights("run");
  try {
    train_on(1, request("run", {"optim.lr=0.5"}));
    FAIL() << "a finished run was overwritten";
  } catch (const farsight::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    EXPECT_NE(std::string(error.what()).find("--resume=auto"), std::string::npos) << error.what();
  }
  EXPECT_EQ(weights("run"), before);
}

TEST_F(Training, AnotherModelIsRefusedAtResume) {
  train_on(1, request("run", {}));
  try {
    train_on(1, request("run", {"model.width=64"}, "auto"));
    FAIL() << "another model was loaded";
  } catch (const farsight::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    EXPECT_NE(std::string(error.what()).find("model.width"), std::string::npos) << error.what();
  }
}

TEST_F(Training, EvaluationCountsEveryTokenOnceInEveryLayout) {
  auto one = request("one", {"eval.every=6 steps"});
  const auto reference = train_on(1, one);
  EXPECT_GT(reference.valid_loss, 0.0);
  const auto ring = train_on(3, request("ring", {"eval.every=6 steps", "parallel.ring=3"}));
  EXPECT_NEAR(ring.valid_loss / reference.valid_loss, 1.0, 1e-4);
}

TEST_F(Training, TerminateWithoutGraceLeavesWithoutASave) {
  raise_stop_request(StopRequest::terminate);
  const auto outcome = train_on(2, request("run", {"parallel.ring=2", "train.grace=0s"}));
  EXPECT_EQ(outcome.exit_code, 143);
  EXPECT_TRUE(list_checkpoints(*make_posix_file_system(), dir("run") + "/checkpoints").empty());
}

TEST_F(Training, ADivergingRunEndsWith76AndSkipsTheUpdates) {
  try {
    train_on(2, request("run", {"parallel.ring=2", "optim.lr=1e30", "optim.clip=0", "train.steps=60 steps"}));
    FAIL() << "an infinite learning rate converged";
  } catch (const farsight::Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::diverged) << error.what();
  }
  EXPECT_EQ(exit_record("run"), 76);
}

}  // namespace
}  // namespace farsight
