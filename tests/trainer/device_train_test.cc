// SPDX-License-Identifier: Apache-2.0
// Whole runs on a CUDA device, the emulated one where there is no GPU: fp32 against the CPU, mixed precision in several
// layouts, checkpoints that change device, precision and layout, samples; and who computes where.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/parity/parity_case.h"
#include "tests/sanitized.h"
#include "trainer/run_device.h"
#include "trainer/signals.h"
#include "trainer/train.h"
#include "trainer/trained_model.h"

namespace farsight {
namespace {

namespace fs = std::filesystem;
using Overrides = std::vector<std::string>;
using Losses = std::map<int64_t, double>;

const Overrides kCpu{"run.device=cpu"}, kCuda{"run.device=cuda"}, kMixed{"run.device=cuda", "train.precision=bf16"};

Overrides operator+(Overrides a, const Overrides& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class DeviceTraining : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
    clear_stop_request();
    folder_ = fs::path(testing::TempDir()) /
              ("device-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override {
    clear_stop_request();
    if (!folder_.empty()) fs::remove_all(folder_);
  }

  std::string dir(const std::string& name) const { return (folder_ / name).string(); }

  // Trains on as many ranks as asked and returns the training losses by step.
  Losses train_run(const std::string& run, int ranks, const Overrides& overrides, const std::string& resume = "never") {
    const std::string text =
        "[data]\ntrain = [\"" + generated_corpus() +
        "\"]\nsequence = 32\npack = \"concat\"\n[model]\nlayers = 2\nwidth = 32\nheads = 2\nkv_heads = 2\n"
        "dropout = 0.1\n[train]\nsteps = \"5 steps\"\nbatch = \"4 samples\"\n[optim]\nlr = 1e-3\n"
        "warmup = \"0 steps\"\n[eval]\nevery = \"0 steps\"\n[checkpoint]\nevery = \"0 steps\"\n"
        "[log]\nevery = \"1 steps\"\n[guard]\nwatchdog = \"120s\"\n";
    TrainRequest request;
    request.config = parse_config(text, "device.toml", overrides + Overrides{"run.dir=" + dir(run)});
    request.resume = parse_resume(resume);
    request.files.train = {probe_corpus(generated_corpus())};
    said_.str("");
    run_in_process(ranks, [&](Communicator& world) {
      std::ostringstream quiet;
      const RunDevice device(request.config, world, /*training=*/true);
      train(device.world(), request, world.rank() == 0 ? static_cast<std::ostream&>(said_) : quiet);
    });
    return losses(run);
  }
  // Stops after the first step, with a checkpoint.
  void train_one_step(const std::string& run, int ranks, const Overrides& overrides) {
    raise_stop_request(StopRequest::save);
    train_run(run, ranks, overrides);
    clear_stop_request();
  }

  Losses losses(const std::string& run) const {
    Losses out;
    std::ifstream in(dir(run) + "/metrics.jsonl");
    for (std::string line; std::getline(in, line);) {
      const auto j = nlohmann::json::parse(line);
      if (j.at("split") == "train") out.emplace(j.at("step").get<int64_t>(), j.at("loss").get<double>());
    }
    return out;
  }

  std::vector<float> weights(const std::string& run) const {
    const auto reference = find_run(dir(run));
    auto trained = load_trained_model(reference, run_config(reference));
    const auto values = trained.model->parameters().values().span<float>();
    return {values.begin(), values.end()};
  }

  fs::path folder_;
  std::ostringstream said_;
};

double worst_difference(const Losses& a, const Losses& b) {
  double worst = a.size() == b.size() ? 0.0 : INFINITY;
  for (const auto& [step, loss] : b) {
    const double difference = a.contains(step) ? std::abs(a.at(step) / loss - 1.0) : INFINITY;
    worst = difference <= worst ? worst : difference;
  }
  return worst;
}

TEST_F(DeviceTraining, Fp32FollowsTheCpu) {
  const Losses cpu = train_run("cpu", 1, kCpu);
  const Losses cuda = train_run("cuda", 2, kCuda + Overrides{"parallel.ring=2"});
  ASSERT_EQ(cpu.size(), 5U);
  EXPECT_LT(cpu.at(5), cpu.at(1));
  EXPECT_LE(worst_difference(cuda, cpu), 1e-5);
  EXPECT_NE(said_.str().find("step 5/5"), std::string::npos) << said_.str();
}

// Every layout is as far from fp32 as one rank is, within a factor; and none is fp32 in disguise.
TEST_F(DeviceTraining, MixedPrecisionInEveryKindOfLayout) {
  const Losses cpu = train_run("cpu", 1, kCpu);
  const double alone = worst_difference(train_run("one", 1, kMixed), cpu);
  EXPECT_GT(alone, 1e-6);
  EXPECT_LE(alone, 5e-3);
  const std::map<std::string, Overrides> layouts{{"z1", {"parallel.data=2", "parallel.zero=1"}},
                                                 {"z2", {"parallel.data=2", "parallel.zero=2"}},
                                                 {"z3", {"parallel.data=2", "parallel.zero=3"}},
                                                 {"ring", {"parallel.ring=2"}},
                                                 {"gather", {"parallel.ring=2", "parallel.context=allgather"}},
                                                 {"ulysses", {"parallel.ulysses=2"}},
                                                 {"tensor", {"parallel.tensor=2"}}};
  for (const auto& [name, layout] : layouts) {
    if (kSanitized && name != "z3" && name != "ring") continue;
    const double difference = worst_difference(train_run(name, 2, kMixed + layout), cpu);
    std::printf("%-8s %.2e (one rank %.2e)\n", name.c_str(), difference, alone);
    EXPECT_LE(difference, 2.0 * alone) << name;
  }
}

// In every order of the sequence cuDNN computes what it is asked for, or the run would end with an error; and the own
// kernels compute the same.
TEST_F(DeviceTraining, TheLibraryAndTheOwnKernelsAgree) {
  const Losses cpu = train_run("cpu", 1, kCpu);
  const Overrides library = kMixed + Overrides{"attention.backend=cudnn"};
  const double alone = worst_difference(train_run("library", 1, library), cpu);
  EXPECT_NE(said_.str().find("attention forward: cuDNN"), std::string::npos) << said_.str();
  EXPECT_NE(said_.str().find("attention backward: cuDNN"), std::string::npos) << said_.str();
  const double own = worst_difference(train_run("own", 1, kMixed + Overrides{"attention.backend=own"}), cpu);
  EXPECT_NE(said_.str().find("attention forward: own tile kernels"), std::string::npos) << said_.str();
  EXPECT_LE(own, 5e-3);
  EXPECT_NE(own, alone);
  for (const char* order : {"contiguous", "zigzag", "striped"}) {
    for (const char* context : {"ring", "allgather"}) {
      const Overrides ring{"parallel.ring=2", std::string("parallel.order=") + order,
                           std::string("parallel.context=") + context};
      const double difference = worst_difference(train_run(std::string(order) + context, 2, library + ring), cpu);
      std::printf("%s, %s: %.2e (one rank %.2e)\n", order, context, difference, alone);
      EXPECT_LE(difference, 2.0 * alone) << order;
    }
    if (kSanitized) break;
  }
}

// Documents of rows that a rank holds whole are one call; over a ring they are told apart by position, block by block.
TEST_F(DeviceTraining, TheLibraryTakesPackedDocuments) {
  const Overrides packed{"data.pack=documents", "attention.mask=causal and window(9,0)", "model.kv_heads=1"};
  const Losses cpu = train_run("cpu", 1, kCpu + packed);
  const Overrides library = kMixed + packed + Overrides{"attention.backend=cudnn"};
  const double alone = worst_difference(train_run("library", 1, library), cpu);
  EXPECT_NE(said_.str().find("attention backward: cuDNN"), std::string::npos) << said_.str();
  EXPECT_GT(alone, 1e-6);
  const double own = worst_difference(train_run("own", 1, kMixed + packed + Overrides{"attention.backend=own"}), cpu);
  EXPECT_LE(own, 5e-3);
  EXPECT_LE(alone, 2.0 * own);
  const Overrides ring = kMixed + packed + Overrides{"parallel.ring=2"};
  EXPECT_LE(worst_difference(train_run("ring", 2, ring), cpu), 2.0 * alone);
  EXPECT_NE(said_.str().find("documents reach over several blocks"), std::string::npos) << said_.str();
}

TEST_F(DeviceTraining, TheLibraryIsNotForcedToDoWhatItCannot) {
  try {
    train_run("run", 1, kMixed + Overrides{"attention.backend=cudnn", "attention.dropout=0.1"});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    EXPECT_NE(std::string(error.what()).find("dropout of the weights"), std::string::npos) << error.what();
  }
}

TEST_F(DeviceTraining, MixedPrecisionResumesBitForBit) {
  const Overrides layout = kMixed + Overrides{"parallel.data=2", "parallel.zero=3"};
  const Losses whole = train_run("whole", 2, layout);
  train_one_step("parts", 2, layout);
  EXPECT_EQ(train_run("parts", 2, layout, "auto"), whole);
  EXPECT_EQ(weights("parts"), weights("whole"));
  // The masters, not their rounded copies: half of the lower bits of bf16 would all be zero.
  size_t longer = 0;
  for (const float w : weights("whole")) longer += (std::bit_cast<uint32_t>(w) & 0xFFFFU) != 0 ? 1 : 0;
  EXPECT_GT(longer, weights("whole").size() / 2);
}

TEST_F(DeviceTraining, ACheckpointChangesDevicePrecisionAndLayout) {
  const Losses cpu = train_run("cpu", 1, kCpu);
  const Overrides ring{"parallel.ring=2"}, zero{"parallel.data=2", "parallel.zero=1"};
  train_one_step("from-cpu", 1, kCpu);
  EXPECT_LE(worst_difference(train_run("from-cpu", 2, kCuda + zero, "auto"), cpu), 1e-5);
  if (kSanitized) return;
  train_one_step("from-cuda", 2, kCuda + ring);
  EXPECT_LE(worst_difference(train_run("from-cuda", 1, kCpu, "auto"), cpu), 1e-5);
  train_one_step("from-mixed", 2, kMixed + zero);
  EXPECT_LE(worst_difference(train_run("from-mixed", 1, kCpu, "auto"), cpu), 5e-3);
  train_one_step("to-mixed", 1, kCpu);
  const Losses mixed = train_run("to-mixed", 2, kMixed + ring, "auto");
  EXPECT_LE(worst_difference(mixed, cpu), 5e-3);
  EXPECT_GT(worst_difference(mixed, cpu), 1e-6);
}

// From the weights where they are, and from weights that are collected on one rank.
TEST_F(DeviceTraining, WritesSamplesAndEvaluates) {
  const Overrides sampled{"train.steps=1 steps", "eval.every=1 steps", "eval.batches=1", "eval.prompt=the ring",
                          "eval.sample_tokens=12"};
  const auto sample = [&](const std::string& run) {
    std::ifstream in(dir(run) + "/samples/step-00000001.txt");
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  train_run("cpu", 1, kCpu + sampled);
  train_run("cuda", 1, kCuda + sampled);
  train_run("sharded", 2, kMixed + sampled + Overrides{"parallel.data=2", "parallel.zero=3"});
  EXPECT_GT(sample("cpu").size(), 12U);
  EXPECT_EQ(sample("cuda"), sample("cpu"));
  EXPECT_GT(sample("sharded").size(), 12U);
}

// One graph a step, or operation by operation: the same bits, with numbers that change from step to step (rate, draws
// of dropout, number of targets) and several micro-batches.
TEST_F(DeviceTraining, StepsAsOneGraphHaveTheSameBits) {
  const Overrides many{"train.steps=8 steps",   "log.every=4 steps",     "train.micro_batch=2",
                       "optim.schedule=cosine", "attention.dropout=0.1", "attention.entropy_weight=0.01"};
  for (const Overrides& precision : {kCuda, kMixed}) {
    const std::string name = precision.size() > 1 ? "mixed" : "f32";
    const Losses graph = train_run(name + "-graph", 1, precision + many);
    EXPECT_NE(said_.str().find("CUDA graph: 6 of 8 steps, 1 graph made"), std::string::npos) << said_.str();
    const Losses single = train_run(name + "-single", 1, precision + many + Overrides{"run.cuda_graph=false"});
    EXPECT_NE(said_.str().find("CUDA graph: off: run.cuda_graph = false"), std::string::npos) << said_.str();
    ASSERT_EQ(graph.size(), 2U);
    EXPECT_EQ(graph, single);
    EXPECT_EQ(weights(name + "-graph"), weights(name + "-single"));
  }
}

// The host learns of it a step later, the device at once: nothing is updated with what is not finite.
TEST_F(DeviceTraining, DivergesAtTheSameStepAsTheCpu) {
  const Overrides wild{"train.steps=12 steps", "log.every=12 steps", "optim.lr=1e18", "optim.clip=0",
                       "guard.nonfinite_limit=3"};
  std::vector<std::string> reports;
  for (const Overrides& device : {kCpu, kCuda}) {
    try {
      train_run(device == kCpu ? "cpu" : "cuda", 1, device + wild);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::diverged);
      EXPECT_NE(std::string(error.what()).find("3 steps in a row"), std::string::npos) << error.what();
    }
    std::string steps;
    std::istringstream lines(said_.str());
    for (std::string line; std::getline(lines, line);) {
      const size_t end = line.find(": loss ");
      if (line.find("is not finite") != std::string::npos) steps += line.substr(0, end) + "\n";
    }
    reports.push_back(steps);
  }
  EXPECT_EQ(reports[0], reports[1]);
  EXPECT_EQ(std::count(reports[0].begin(), reports[0].end(), '\n'), 3);
}

TEST_F(DeviceTraining, MixedPrecisionOnTheCpuIsRefused) {
  try {
    train_run("run", 1, kCpu + Overrides{"train.precision=bf16"});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::environment);
    EXPECT_NE(std::string(error.what()).find("--train.precision=f32"), std::string::npos) << error.what();
  }
}

std::string refusal(DeviceChoice wanted, const std::vector<RankDevices>& ranks) {
  try {
    choose_devices(wanted, ranks);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::environment);
    return error.what();
  }
  return {};
}

TEST(ChooseDevices, RanksOfAHostAreDealtToItsDevices) {
  const std::vector<RankDevices> ranks{{"a", 2, ""}, {"b", 1, ""}, {"a", 2, ""}, {"a", 2, ""}, {"b", 1, ""}};
  const std::vector<int32_t> expected{0, 0, 1, 0, 0};
  EXPECT_EQ(choose_devices(DeviceChoice::automatic, ranks), expected);
  EXPECT_EQ(choose_devices(DeviceChoice::cuda, ranks), expected);
  EXPECT_TRUE(choose_devices(DeviceChoice::cpu, ranks).empty());
}

TEST(ChooseDevices, NothingIsLeftUndecided) {
  const std::vector<RankDevices> none{{"a", 0, "no driver"}, {"a", 0, "no driver"}},
      some{{"a", 1, ""}, {"b", 0, "no driver"}};
  EXPECT_TRUE(choose_devices(DeviceChoice::automatic, none).empty());
  EXPECT_NE(refusal(DeviceChoice::cuda, none).find("rank 0 on a"), std::string::npos);
  for (const DeviceChoice wanted : {DeviceChoice::automatic, DeviceChoice::cuda}) {
    EXPECT_NE(refusal(wanted, some).find("rank 1 on b"), std::string::npos);
    EXPECT_NE(refusal(wanted, some).find("no driver"), std::string::npos);
  }
}

}  // namespace
}  // namespace farsight
