// SPDX-License-Identifier: Apache-2.0
// Traffic and times against hand calculation, and calibrations as files.
#include "trainer/step_time.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/sanitized.h"
#include "trainer/bench_comm.h"
#include "trainer/bench_kernels.h"

namespace farsight {
namespace {

// B = 2 samples of S = 64 tokens in one pass, h = 128, k = 64 (4 heads, 2 key heads of 32), 3 layers.
Config small(const std::vector<std::string>& overrides) {
  std::vector<std::string> all{"data.sequence=64", "model.layers=3",  "model.kv_heads=2",
                               "data.pack=concat", "model.vocab=100", "train.batch=2 samples"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  return parse_config("data.train = ['none.h5']\n", "small.toml", all);
}

TrafficPlan traffic(int64_t ranks, std::vector<std::string> overrides) {
  overrides.push_back("train.micro_batch=2");
  const Config config = small(overrides);
  return traffic_plan(config, resolve_layout(config, ranks), 100);
}

constexpr int64_t kRows = 2 * 64, kWidth = 128, kKeys = 64, kLayers = 3;

TEST(Traffic, TensorParallelByHand) {
  // Section 12, t = 2: 4 (t - 1) / t B n h e forward, the same and 2 (t - 1) / t more backward.
  const int64_t tensor = kRows * kWidth * 4 / 2;
  EXPECT_EQ(traffic(2, {"parallel.tensor=2"}).tensor, kLayers * (4 + 4 + 2) * tensor);
  EXPECT_EQ(traffic(2, {"parallel.tensor=2", "parallel.sequence_parallel=false"}).tensor, kLayers * 8 * tensor);
  EXPECT_EQ(traffic(2, {"parallel.tensor=2", "train.recompute=layer"}).tensor, kLayers * (4 + 4 + 4 + 2) * tensor);
}

TEST(Traffic, KeysOfRingAndAllGatherByHand) {
  // c = 2: a block of keys and values is B S/2 2k. Ring: a hop forward, one backward, two of gradients.
  const int64_t block = kRows / 2 * 2 * kKeys * 4;
  EXPECT_EQ(traffic(2, {"parallel.ring=2"}).keys, kLayers * 4 * block);
  // All-gather: its half of the keys forward and again backward, its half of the gradients.
  EXPECT_EQ(traffic(2, {"parallel.ring=2", "parallel.context=allgather"}).keys, kLayers * 3 * block);
  // c = 4: 2 (c - 1) / c B S k e forward, the same and the gradients with a hop more backward.
  EXPECT_EQ(traffic(4, {"parallel.ring=4"}).keys, kLayers * (3 + 3 + 4) * (block / 2));
  EXPECT_EQ(traffic(4, {"parallel.ring=4", "train.recompute=layer"}).keys, kLayers * (3 + 3 + 3 + 4) * (block / 2));
  EXPECT_EQ(traffic(4, {"parallel.ring=4", "train.recompute=attn"}).keys, kLayers * (3 + 3 + 4) * (block / 2));
}

TEST(Traffic, UlyssesByHand) {
  // (c - 1) / c B n (2h + 2k) e, the same backward; c = 2, n = S / 2.
  EXPECT_EQ(traffic(2, {"parallel.ulysses=2"}).heads, kLayers * 2 * (kRows / 2 * (2 * kWidth + 2 * kKeys) * 4 / 2));
  const TrafficPlan two = traffic(4, {"parallel.ring=2", "parallel.ulysses=2"});
  EXPECT_EQ(two.heads, kLayers * 2 * (kRows / 4 * (2 * kWidth + 2 * kKeys) * 4 / 2));
  EXPECT_EQ(two.keys, kLayers * 4 * (kRows / 2 * 2 * (kKeys / 2) * 4));
}

TEST(Traffic, GradientsAndWeightsOfTheZeroStages) {
  const int64_t p = 4 * model_size(small({}), 100).total();
  const auto stage = [](int zero) {
    const Config config = small({"train.micro_batch=1", "parallel.data=2", "parallel.zero=" + std::to_string(zero)});
    return traffic_plan(config, resolve_layout(config, 2), 100);
  };
  EXPECT_EQ(stage(0).gradients, p);  // 2 (R - 1) / R
  EXPECT_EQ(stage(0).weights, 0);
  EXPECT_EQ(stage(1).gradients, p / 2);
  EXPECT_EQ(stage(1).weights, p / 2);
  EXPECT_EQ(stage(3).gradients, p / 2);
  const int64_t ends = 4 * (100 * 128 + 128);  // not gathered again for backward
  EXPECT_NEAR(static_cast<double>(stage(3).weights), static_cast<double>(p + p - ends) / 2.0, 2.0);
}

// A machine whose every rate is 1e9, with nothing hidden: times are counts.
Calibration plain() {
  Calibration c;
  c.peak_flops = c.product_flops = c.attention_forward = c.attention_backward = c.memory_bytes = 1e9;
  c.product_bytes = 1e30;
  for (const CommPattern pattern : kCommPatterns) c.comm.push_back({pattern, 2, false, {1e-6, 1e-9}});
  return c;
}

StepTime time_of(const Config& config, int64_t ranks, const Calibration& calibration) {
  const RunLayout layout = resolve_layout(config, ranks);
  return step_time(config, layout, 100, calibration, 0, largest_rank_parameters(config, layout, 100));
}

TEST(StepTime, ArithmeticIsTheModelsFlops) {
  const Config config = small({"train.micro_batch=2"});
  const StepTime t = time_of(config, 1, plain());
  const double tokens = 128.0;
  const auto matmul = static_cast<double>(model_size(config, 100).matmul);
  const double head = 6.0 * 100.0 * 128.0 * tokens;
  EXPECT_NEAR(t.products * 1e9, 6.0 * matmul * tokens - head, 1.0);
  // Forward 4, backward 10 per visible pair and channel.
  EXPECT_NEAR(t.attention * 1e9, 14.0 * 3.0 * 128.0 * tokens * 65.0 / 2.0, 1.0);
  EXPECT_NEAR(t.mfu * 1e9 * t.total(), flops_per_token(config, 100) * tokens, 1.0);
  EXPECT_GT(t.mfu_full, t.mfu);
  const StepTime again = time_of(small({"train.micro_batch=2", "train.recompute=layer"}), 1, plain());
  EXPECT_NEAR(again.products, t.products * 4.0 / 3.0, 1e-9);
  EXPECT_NEAR(again.attention, t.attention * 18.0 / 14.0, 1e-9);
  const StepTime kept = time_of(small({"train.micro_batch=2", "train.recompute=attn"}), 1, plain());
  EXPECT_NEAR(kept.attention, t.attention, 1e-12);
}

TEST(StepTime, ARingHidesBehindItsBlocks) {
  const Config config = small({"train.micro_batch=2", "parallel.ring=2", "parallel.order=zigzag"});
  Calibration c = plain();
  const StepTime open = time_of(config, 2, c);
  // 4 hops a layer, of which two move keys and the others gradients; and the all-reduce of the gradients.
  const double hop = 1e-6 + static_cast<double>(kRows / 2 * 2 * kKeys * 4) * 1e-9;
  EXPECT_NEAR(open.exposed_by.at(TrafficKind::keys), 3.0 * 4.0 * hop, 1e-12);
  EXPECT_NEAR(open.exposed, open.communication, 1e-12);
  c.overlap = 1.0;
  const StepTime hidden = time_of(config, 2, c);
  // Blocks take 14 / 2 x 128 x 32.5 x 128 / 2 FLOPs and more, far above a hop: only the way home is left.
  EXPECT_NEAR(hidden.exposed_by.at(TrafficKind::keys), 3.0 * hop, 1e-12);
  EXPECT_LT(hidden.total(), open.total());
}

TEST(StepTime, ContiguousOrderWaitsForTheRankWithMostPairs) {
  const auto attention = [](const char* order) {
    return time_of(small({"train.micro_batch=2", "parallel.ring=4", std::string("parallel.order=") + order}), 4,
                   plain())
        .attention;
  };
  EXPECT_NEAR(attention("contiguous") / attention("zigzag"), 1.75, 0.02);  // 2 - 1/c for long rows
}

TEST(StepTime, EveryOwnersStripesEndAtTheQuery) {
  const auto attention = [](const char* order, double half) {
    Calibration c = plain();
    c.attention_half = half;
    return time_of(small({"train.micro_batch=2", "parallel.ring=4", std::string("parallel.order=") + order}), 4, c)
        .attention;
  };
  // A query sees 32.5 keys; those of the last stripe 4, 8 ... 64, on average 34.
  EXPECT_NEAR(attention("zigzag", 16.0) / attention("zigzag", 0.0), 1.0 + 16.0 / 32.5, 1e-9);
  EXPECT_NEAR(attention("striped", 16.0) / attention("striped", 0.0), 1.0 + 4.0 * 16.0 / 34.0, 1e-9);
}

TEST(StepTime, RanksBeyondTheCoresTakeTurns) {
  Calibration c = plain();
  c.concurrency = 2;
  c.slowdown = 1.5;
  const Config config = small({"train.micro_batch=1", "parallel.data=2"});
  EXPECT_NEAR(time_of(config, 2, c).products, 1.5 * time_of(config, 2, plain()).products, 1e-9);
  const Config four = small({"train.micro_batch=1", "parallel.ring=4"});
  EXPECT_NEAR(time_of(four, 4, c).products, 3.0 * time_of(four, 4, plain()).products, 1e-9);
}

TEST(Communication, ScalesWithRanksAndReach) {
  Calibration c = plain();
  EXPECT_EQ(comm_seconds(c, CommPattern::all_reduce, 1, false, 1e6), 0.0);
  EXPECT_NEAR(comm_seconds(c, CommPattern::all_reduce, 2, false, 1e6), 1e-6 + 1e-3, 1e-12);
  // From 2 to 4 ranks: three times the messages, (3/4) / (1/2) of the bytes.
  EXPECT_NEAR(comm_seconds(c, CommPattern::all_reduce, 4, false, 1e6), 3e-6 + 1.5e-3, 1e-12);
  EXPECT_NEAR(comm_seconds(c, CommPattern::ring, 16, false, 1e6), 1e-6 + 1e-3, 1e-12);
  c.comm.push_back({CommPattern::all_reduce, 8, false, {5e-6, 7e-9}});
  EXPECT_NEAR(comm_seconds(c, CommPattern::all_reduce, 8, false, 1e6), 5e-6 + 7e-3, 1e-12);
  c.comm.push_back({CommPattern::all_reduce, 2, true, {1e-5, 1e-8}});
  EXPECT_NEAR(comm_seconds(c, CommPattern::all_reduce, 2, true, 1e6), 1e-5 + 1e-2, 1e-12);
}

TEST(Measured, EveryPatternOfEveryGroupSize) {
  run_in_process(4, [](Communicator& world) {
    const auto rates = measure_comm(world, {.largest = 4096, .repeats = 1}, /*ranks_per_node=*/2);
    ASSERT_EQ(rates.size(), 2 * kCommPatterns.size());
    for (const CommRate& rate : rates) {
      EXPECT_EQ(rate.across, rate.ranks == 4);
      EXPECT_GT(rate.cost.seconds(1 << 20), 0.0);
    }
  });
}

TEST(Measured, KernelsOfThisMachine) {
  if (kSanitized) GTEST_SKIP() << "speeds under a sanitizer are no machine's";
  const Calibration c = measure_kernels({.seconds = 0.001, .ranks = 1});
  for (const double rate :
       {c.peak_flops, c.product_flops, c.product_bytes, c.attention_forward, c.attention_backward, c.memory_bytes}) {
    EXPECT_GT(rate, 1e6);
    EXPECT_LT(rate, 1e15);
  }
  EXPECT_LE(c.product_flops, c.peak_flops);
}

TEST(CalibrationFile, IsReadAsItWasWritten) {
  Calibration c = h100_calibration();
  c.product_flops = 123e9;
  c.concurrency = 7;
  Calibration back = default_cpu_calibration();
  back.comm.clear();
  parse_calibration(calibration_json(c), "h100.json", back);
  EXPECT_EQ(back.product_flops, 123e9);
  EXPECT_EQ(back.attention_backward, c.attention_backward);
  EXPECT_EQ(back.concurrency, 7);
  ASSERT_EQ(back.comm.size(), c.comm.size());
  EXPECT_EQ(back.comm[3].cost.beta_s_per_byte, c.comm[3].cost.beta_s_per_byte);
  // The second file adds to the first and replaces what both have.
  parse_calibration(R"({"comm":[{"pattern":"ring","ranks":2,"alpha_s":1.0,"beta_s_per_byte":2.0}]})", "c.json", back);
  EXPECT_EQ(back.comm.size(), c.comm.size());
  EXPECT_EQ(comm_seconds(back, CommPattern::ring, 2, false, 1.0), 3.0);
}

TEST(CalibrationFile, DamageIsNamed) {
  for (const char* text : {"", "[]", "{\"memory_bytes\":-1}", "{\"memory_bytes\":\"fast\"}", "{\"comm\":[{}]}",
                           R"({"comm":[{"pattern":"gossip","ranks":2,"alpha_s":1,"beta_s_per_byte":1}]})"}) {
    Calibration c;
    try {
      parse_calibration(text, "bad.json", c);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config);
      EXPECT_EQ(std::string(error.what()).find("bad.json: "), 0U);
    }
  }
  EXPECT_THROW(named_calibration("abacus"), Error);
}

}  // namespace
}  // namespace farsight
