// SPDX-License-Identifier: Apache-2.0
// T3 and T8: one scale factor 1/N whatever the ranks see of the N targets, the global norm, the clip factor in the
// update, and a replica check that notices a missing sum.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "data/reader.h"
#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "parallel/replica_check.h"
#include "tests/parity/parity_case.h"
#include "tests/sanitized.h"
#include "trainer/collect_model.h"
#include "trainer/model_spec.h"
#include "trainer/run_mesh.h"
#include "trainer/training_step.h"

namespace farsight {
namespace {

constexpr int64_t kRows = 12, kTokens = 13;
constexpr int64_t kVocabulary = 67;

std::string config_text() {
  return "[data]\ntrain = [\"x.h5\"]\nsequence = 13\npack = \"concat\"\n[model]\nlayers = 1\nwidth = 16\nheads = "
         "4\nkv_heads = 2\n"
         "mlp_width = 24\nvocab = 67\n[attention]\nqk_norm = \"rms\"\n[optim]\nname = \"sgd\"\nlr = 1.0\n"
         "schedule = \"constant\"\nweight_decay = 0.0\nclip = 0.1\n[train]\nbatch = \"12 samples\"\n";
}

// A whole step: rows of tokens, and which of them are targets.
struct WholeBatch {
  std::vector<int32_t> inputs, labels;  // [kRows * kTokens]
  explicit WholeBatch(const std::function<bool(int64_t row, int64_t token)>& target) {
    uint32_t state = 5;
    for (int64_t i = 0; i < kRows * kTokens; ++i) {
      state = state * 1664525U + 1013904223U;
      inputs.push_back(static_cast<int32_t>((state >> 8) % kVocabulary));
      state = state * 1664525U + 1013904223U;
      const auto label = static_cast<int32_t>((state >> 8) % kVocabulary);
      labels.push_back(target(i / kTokens, i % kTokens) ? label : -1);
    }
  }
  int64_t targets() const {
    return static_cast<int64_t>(std::count_if(labels.begin(), labels.end(), [](int32_t l) { return l >= 0; }));
  }

  // The part of one rank, in micro-batches.
  StepBatch part(const Mesh& mesh, const SequenceLayout& sequence, int64_t micro_batch) const {
    const int64_t data = mesh.shape().extent(Axis::dp);
    const auto positions = sequence.positions(mesh.context_index());
    const auto n = static_cast<int64_t>(positions.size());
    StepBatch step;
    for (int64_t first = mesh.coordinate().dp * micro_batch; first < kRows; first += data * micro_batch) {
      MicroBatch micro;
      micro.inputs = Tensor::empty({micro_batch, n}, DType::i32);
      micro.labels = Tensor::empty({micro_batch, n}, DType::i32);
      for (int64_t b = 0; b < micro_batch; ++b) {
        micro.sample_ids.push_back(first + b);
        for (int64_t t = 0; t < n; ++t) {
          const auto at = static_cast<size_t>((first + b) * kTokens + positions[static_cast<size_t>(t)]);
          micro.inputs.data<int32_t>()[b * n + t] = inputs[at];
          micro.labels.data<int32_t>()[b * n + t] = labels[at];
          micro.valid_labels += labels[at] >= 0 ? 1 : 0;
        }
      }
      step.valid_labels += micro.valid_labels;
      step.micro.push_back(std::move(micro));
    }
    return step;
  }
};

struct Numbers {
  int64_t targets = 0;
  StepResult step;
  NamedTensors gradients, before, after;
  bool diverged = false;
};

// Changes the placements that the reductions are derived from, for planting an error.
using Tamper = std::function<void(const LanguageModel&, std::vector<Placement>&)>;

Numbers run(const WholeBatch& batch, const std::vector<std::string>& layout, int ranks, const Tamper& tamper = {}) {
  const Config config = parse_config(config_text(), "scale.toml", layout);
  Numbers result;
  run_in_process(ranks, [&](Communicator& world) {
    const RunLayout run = resolve_layout(config, world.size());
    Mesh mesh(world, mesh_options(run));
    const SequenceLayout sequence = sequence_layout(config, run);
    LanguageModel model(model_spec(config, kVocabulary), model_sharding(config, mesh.shape(), world.rank()));
    std::vector<Placement> placements = model.placements();
    if (tamper) tamper(model, placements);
    ParameterShards shards(model.parameters(), mesh, placements, config.parallel.zero, 4096);
    shards.initialize(1);
    Optimizer optimizer(shards, config.optim);
    TrainingStep step(model, shards, optimizer, {1, config.optim.clip, sequence});
    const StepBatch mine = batch.part(mesh, sequence, run.micro_batch);
    Numbers own;
    own.targets = step.count_targets(mine.valid_labels);
    own.before = collect_tensors(shards, /*gradients=*/false);
    if (own.targets > 0) {
      own.step = step.accumulate(mine, 0, own.targets).read();
      own.gradients = collect_tensors(shards, /*gradients=*/true);
      step.update(config.optim.lr, 0);
    }
    own.after = collect_tensors(shards, /*gradients=*/false);
    try {
      check_replicas(shards);
    } catch (const Error& error) {
      own.diverged = error.kind() == ErrorKind::diverged;
    }
    if (world.rank() == 0) result = std::move(own);
  });
  return result;
}

double worst_gradient(const Numbers& run, const Numbers& reference) {
  double largest = 0.0;
  for (const auto& [name, g] : reference.gradients) {
    for (const float v : g) largest = std::max(largest, std::abs(static_cast<double>(v)));
  }
  double worst = 0.0;
  for (const auto& [name, g] : reference.gradients) {
    worst = std::max(worst, relative_difference(run.gradients.at(name), g, 1e-4 * largest));
  }
  return worst;
}

struct Case {
  const char* name;
  std::function<bool(int64_t, int64_t)> target;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"every token", [](int64_t, int64_t) { return true; }},
      {"one token", [](int64_t row, int64_t token) { return row == 7 && token == 9; }},
      {"unequal counts", [](int64_t row, int64_t token) { return token * 2 < row + 1 || row == 11; }},
      {"empty ranks", [](int64_t row, int64_t token) { return row < 3 && token < 4; }},
      {"no token", [](int64_t, int64_t) { return false; }},
  };
  return all;
}

std::vector<std::pair<int64_t, int64_t>> grids() {
  if (kSanitized) return {{2, 3}, {3, 1}};
  std::vector<std::pair<int64_t, int64_t>> all;
  for (int64_t data = 1; data <= 4; ++data) {
    for (int64_t context = 1; context <= 4; ++context) {
      if (data * context <= 8) all.emplace_back(data, context);
    }
  }
  return all;
}

TEST(LossScale, IsOneOverAllTargetsWhateverRanksSee) {
  for (const Case& c : cases()) {
    const WholeBatch batch(c.target);
    const Numbers reference = run(batch, {"train.micro_batch=12"}, 1);
    EXPECT_EQ(reference.targets, batch.targets());
    for (const auto& [data, context] : grids()) {
      for (const char* axis : {"ring", "ulysses"}) {
        if (std::string(axis) == "ulysses" && (context == 1 || context == 3)) continue;
        const std::vector<std::string> layout{"parallel.data=" + std::to_string(data),
                                              std::string("parallel.") + axis + "=" + std::to_string(context),
                                              "train.micro_batch=" + std::to_string(data == 2 ? 3 : 1)};
        const Numbers numbers = run(batch, layout, static_cast<int>(data * context));
        const std::string where =
            std::string(c.name) + ", data " + std::to_string(data) + " x " + axis + " " + std::to_string(context);
        EXPECT_EQ(numbers.targets, batch.targets()) << where;
        if (batch.targets() == 0) continue;
        EXPECT_LE(std::abs(numbers.step.loss / reference.step.loss - 1.0), 1e-6) << where;
        EXPECT_LE(std::abs(numbers.step.grad_norm / reference.step.grad_norm - 1.0), 1e-6) << where;
        EXPECT_LE(worst_gradient(numbers, reference), 1e-5) << where;
      }
    }
  }
}

TEST(LossScale, TheLossIsTheMeanOverTargets) {
  // Zero weights predict every token alike: log V per target, whatever their number.
  const WholeBatch batch(cases()[2].target);
  const Numbers numbers = run(batch, {}, 1);
  EXPECT_NEAR(numbers.step.loss, std::log(static_cast<double>(kVocabulary)), 0.1);
}

struct Rung {
  std::vector<std::string> layout;
  int ranks;
};

std::vector<Rung> rungs() {
  return {{{}, 1},
          {{"parallel.data=2"}, 2},
          {{"parallel.tensor=2"}, 2},
          {{"parallel.tensor=4"}, 4},
          {{"parallel.tensor=2", "parallel.sequence_parallel=false"}, 2},
          {{"parallel.ring=2", "parallel.zero=1"}, 2},
          {{"parallel.data=2", "parallel.zero=2"}, 2},
          {{"parallel.data=2", "parallel.tensor=2", "parallel.zero=3"}, 4},
          {{"parallel.data=4", "parallel.zero=1", "parallel.zero_group=2"}, 4}};
}

// T8: the update of plain SGD with rate 1 is the gradient times min(1, clip / (norm + 1e-6)).
TEST(Clip, ScalesTheUpdateByTheExactFactor) {
  const WholeBatch batch(cases()[2].target);
  const Numbers reference = run(batch, {}, 1);
  ASSERT_GT(reference.step.grad_norm, 0.2) << "nothing to clip";
  for (const auto& [layout, ranks] : rungs()) {
    const Numbers numbers = run(batch, layout, ranks);
    EXPECT_LE(std::abs(numbers.step.grad_norm / reference.step.grad_norm - 1.0), 1e-6) << layout.back();
    const double factor = 0.1 / (numbers.step.grad_norm + 1e-6);
    double squares = 0.0, worst = 0.0;
    for (const auto& [name, g] : numbers.gradients) {
      for (size_t i = 0; i < g.size(); ++i) {
        const double moved =
            static_cast<double>(numbers.before.at(name)[i]) - static_cast<double>(numbers.after.at(name)[i]);
        const double wanted = factor * static_cast<double>(g[i]);
        const double rounding = 1.2e-7 * std::abs(static_cast<double>(numbers.before.at(name)[i]));
        worst = std::max(worst, std::abs(moved - wanted) - rounding);
        squares += moved * moved;
      }
    }
    EXPECT_LE(worst, 1e-8);
    EXPECT_NEAR(std::sqrt(squares), 0.1, 1e-4) << "the length of the whole update is the clip";
    EXPECT_FALSE(numbers.diverged);
  }
}

// T8: a sum over the tensor ranks that somebody forgets shows in the gradients and in the replica check.
TEST(ReplicaCheck, NoticesASumThatWasLeftOut) {
  const WholeBatch batch(cases()[2].target);
  const Numbers reference = run(batch, {}, 1);
  const auto forget = [](AxisSet axes) {
    return [axes](const LanguageModel&, std::vector<Placement>& placements) {
      for (Placement& p : placements) p.partial = p.partial.without(axes);
    };
  };
  const std::vector<std::string> two{"parallel.tensor=2"};
  const Numbers norms = run(batch, two, 2, forget({Axis::tp}));
  EXPECT_TRUE(norms.diverged);
  EXPECT_GT(worst_gradient(norms, reference), 1e-2);
  const std::vector<std::string> four{"parallel.tensor=4"};
  const Numbers keys = run(batch, four, 4, forget({Axis::kvrep}));
  EXPECT_TRUE(keys.diverged);
  EXPECT_GT(worst_gradient(keys, reference), 1e-2);
  EXPECT_FALSE(run(batch, four, 4).diverged);
}

// Counts differ between ranks when documents end at different places: the validation loss is sum / sum.
TEST(Evaluation, IsSumOverCountInEveryLayout) {
  DatasetFiles files;
  files.train = {probe_corpus(generated_corpus())};
  const auto evaluate_in = [&](const std::vector<std::string>& layout, int ranks) {
    auto overrides = layout;
    overrides.push_back("model.vocab=auto");
    overrides.push_back("data.pack=documents");
    const Config config = parse_config(config_text(), "eval.toml", overrides);
    EvaluationResult result;
    run_in_process(ranks, [&](Communicator& world) {
      const RunLayout run = resolve_layout(config, world.size());
      Mesh mesh(world, mesh_options(run));
      const SequenceLayout sequence = sequence_layout(config, run);
      auto corpus = open_split(files, config.data, "valid", /*evaluation=*/true, "");
      LanguageModel model(model_spec(config, corpus->tokenizer().vocab_size),
                          model_sharding(config, mesh.shape(), world.rank()));
      ParameterShards shards(model.parameters(), mesh, model.placements(), config.parallel.zero, 4096);
      shards.initialize(1);
      StreamPlan plan;
      plan.shuffle = Shuffle::none;
      plan.sample_limit = std::min<int64_t>(corpus->samples(), 37);  // the last step is not full
      plan.global_batch = layout.empty() ? 37 : run.data * run.micro_batch;
      plan.data_ranks = run.data;
      plan.data_rank = mesh.coordinate().dp;
      plan.micro_batch = layout.empty() ? 37 : run.micro_batch;
      plan.ranges = reader_ranges(sequence, mesh.context_index());
      BatchStream stream(corpus, plan);
      const auto own = evaluate(model, mesh, &shards, sequence, stream, {});
      if (world.rank() == 0) result = own;
    });
    return result;
  };
  const EvaluationResult reference = evaluate_in({}, 1);
  ASSERT_GT(reference.targets, 100);
  for (const auto& [layout, ranks] : rungs()) {
    if (layout.empty()) continue;
    const EvaluationResult result = evaluate_in(layout, ranks);
    EXPECT_EQ(result.targets, reference.targets) << layout.back();
    EXPECT_NEAR(result.loss(), reference.loss(), 1e-8) << layout.back();
  }
}

}  // namespace
}  // namespace farsight
