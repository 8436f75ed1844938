// SPDX-License-Identifier: Apache-2.0
// A checkpoint saved in any layout is loaded in any other one: the same bits of weights and moments, and the next
// steps are those of the run that was not interrupted. In its own layout the run goes on bit for bit.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "tests/faults/memory_file_system.h"
#include "tests/parity/layouts.h"
#include "tests/parity/parity_case.h"
#include "tests/parity/whole_state.h"
#include "tests/sanitized.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/layout_trainer.h"
#include "trainer/state_slices.h"
#include "trainer/training_state.h"

namespace farsight {
namespace {

constexpr int64_t kStepsBefore = 3, kStepsAfter = 2;

// Two key heads under eight query heads: with more than two tensor ranks each lies on several. Biases, tied embeddings
// and head norms: every kind of placement. 83 does not divide by any number of tensor ranks, nor 53 by the others.
const char* const kConfig =
    "[data]\ntrain = [\"x.h5\"]\nsequence = 53\npack = \"documents\"\n"
    "[model]\nlayers = 2\nwidth = 32\nheads = 8\nhead_width = 8\nkv_heads = 2\nmlp_width = 83\nbias = true\nnorm = "
    "\"layer\"\n"
    "dropout = 0.1\ntie_embeddings = true\n"
    "[attention]\nposition = \"learned\"\nqk_norm = \"rms\"\ndropout = 0.1\n"
    "[train]\nbatch = \"12 samples\"\nsteps = \"20 steps\"\n"
    "[parallel]\nbucket = \"64KiB\"\n[optim]\nlr = 1e-3\nschedule = \"constant\"\n";

// Twelve, or all 47 when asked for (the slow run); a sanitizer needs each piece of code once.
std::vector<Layout> layouts() {
  const std::vector<std::string> names{"dp3", "dp2z2", "dp2z3",       "dp4z1g2",   "tp2sp",         "tp4",
                                       "r3s", "r2u2z", "dp2z3.tp2sp", "dp2z3.r2s", "dp2z1.tp2sp.u2"};
  const std::vector<std::string> sanitized{"dp2z3", "tp4", "dp2z3.tp2sp"};
  const auto& all = all_layouts();
  std::vector<Layout> chosen{{"one", 1, {"parallel.data=1"}}};
  if (std::getenv("FARSIGHT_ALL_LAYOUTS") != nullptr) {
    chosen.insert(chosen.end(), all.begin(), all.end());
    std::erase_if(chosen, [](const Layout& l) { return l.name == std::string("u3"); });  // two key heads over three
    return chosen;
  }
  for (const auto& name : kSanitized ? sanitized : names) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const Layout& l) { return name == l.name; });
    if (found == all.end()) ADD_FAILURE() << "no layout " << name;
    if (found != all.end()) chosen.push_back(*found);
  }
  return chosen;
}

DatasetFiles files() {
  DatasetFiles out;
  out.train = {probe_corpus(generated_corpus())};
  return out;
}

struct Trace {
  std::vector<double> losses, norms;
  bool operator==(const Trace&) const = default;
};

Trace train(LayoutTrainer& trainer, int64_t steps) {
  Trace trace;
  for (int64_t s = 0; s < steps; ++s) {
    const auto result = trainer.accumulate();
    trace.losses.push_back(result.loss);
    trace.norms.push_back(result.grad_norm);
    trainer.update(1e-3);
  }
  return trace;
}

void save(LayoutTrainer& trainer, const Config& config, FileSystem& disk, const std::string& directory) {
  StateDescription description;
  description.config_text = to_toml(config);
  description.seed = config.run.seed;
  Communicator& world = trainer.mesh().world();
  CheckpointOptions options;
  options.directory = directory;
  options.chunk_bytes = 64 << 10;
  CheckpointWriter writer(options, disk, world, nullptr);
  const auto report = writer.step({/*save=*/true, /*wait=*/true, {}}, [&] {
    return make_snapshot(trainer.shards(), trainer.optimizer(), trainer.position(), description);
  });
  if (report.committed_step != trainer.position().step) throw std::runtime_error("the save was dropped");
}

void load(LayoutTrainer& trainer, FileSystem& disk, const std::string& directory) {
  // What the load forgets stays visible.
  trainer.shards().initialize(4711);
  LoadTargets state;
  const auto loaded = load_checkpoint({ResumeRequest::Mode::automatic, {}}, directory, disk, trainer.mesh().world(),
                                      [&](const Manifest& m) {
                                        state = state_targets(m, trainer.shards(), trainer.optimizer());
                                        return state.targets();
                                      });
  if (!loaded.manifest) throw std::runtime_error("nothing was loaded from " + directory);
  take_loaded_state(state, trainer.shards());
  const auto& saved = loaded.manifest->state;
  trainer.set_position({saved.step, saved.tokens, saved.samples_consumed});
}

// A run that saved after kStepsBefore steps and went on.
struct Saved {
  WholeState state;   // as saved
  Trace after;        // of the steps that followed
  WholeState at_end;  // after them
};

class Reshard : public testing::Test {
 protected:
  std::unique_ptr<Saved> save_in(const Layout& layout) {
    auto saved = std::make_unique<Saved>();
    const Config config = parse_config(kConfig, "reshard.toml", layout.overrides);
    run_in_process(layout.ranks, [&](Communicator& world) {
      LayoutTrainer trainer(world, config, files_);
      train(trainer, kStepsBefore);
      save(trainer, config, disk_, directory(layout));
      saved->state.add(trainer);
      const Trace after = train(trainer, kStepsAfter);
      if (world.rank() == 0) saved->after = after;
      saved->at_end.add(trainer);
    });
    EXPECT_EQ(saved->state.gap(), "") << layout.name;
    return saved;
  }

  std::string directory(const Layout& layout) const { return std::string("/runs/") + layout.name; }

  MemoryFileSystem disk_;
  DatasetFiles files_ = files();
};

struct Outcome {
  WholeState state, at_end;
  Trace trace;
};

TEST_F(Reshard, AnyLayoutReadsWhatAnyLayoutWrote) {
  const auto all = layouts();
  std::map<std::string, std::unique_ptr<Saved>> saved;
  for (const auto& layout : all) saved[layout.name] = save_in(layout);
  std::printf("%-16s %s\n", "loaded in", "worst relative difference of the next loss, of the one after");
  for (const auto& to : all) {
    const Config config = parse_config(kConfig, "reshard.toml", to.overrides);
    std::vector<Outcome> outcomes(all.size());
    const auto start = std::chrono::steady_clock::now();
    run_in_process(to.ranks, [&](Communicator& world) {
      for (size_t i = 0; i < all.size(); ++i) {
        LayoutTrainer trainer(world, config, files_);
        load(trainer, disk_, directory(all[i]));
        outcomes[i].state.add(trainer);
        const Trace trace = train(trainer, kStepsAfter);
        if (world.rank() == 0) outcomes[i].trace = trace;
      }
    });
    double worst[kStepsAfter] = {};
    for (size_t i = 0; i < all.size(); ++i) {
      const Saved& before = *saved.at(all[i].name);
      const std::string pair = std::string(all[i].name) + " -> " + to.name;
      EXPECT_EQ(outcomes[i].state.difference(before.state), "") << pair;
      for (size_t s = 0; s < kStepsAfter; ++s) {
        const double difference = std::abs(outcomes[i].trace.losses[s] / before.after.losses[s] - 1.0);
        worst[s] = std::max(worst[s], difference);
        EXPECT_LE(difference, 1e-6) << pair << ", step " << kStepsBefore + static_cast<int64_t>(s) + 1;
      }
    }
    std::printf("%-16s %.1e  %.1e  (%.1f s)\n", to.name, worst[0], worst[1],
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}

TEST_F(Reshard, InItsOwnLayoutARunGoesOnBitForBit) {
  for (const auto& layout : layouts()) {
    const auto whole = save_in(layout);
    const Config config = parse_config(kConfig, "reshard.toml", layout.overrides);
    Outcome resumed;
    run_in_process(layout.ranks, [&](Communicator& world) {
      LayoutTrainer trainer(world, config, files_);
      load(trainer, disk_, directory(layout));
      const Trace trace = train(trainer, kStepsAfter);
      if (world.rank() == 0) resumed.trace = trace;
      resumed.at_end.add(trainer);
    });
    EXPECT_EQ(resumed.trace, whole->after) << layout.name;
    EXPECT_EQ(resumed.at_end.difference(whole->at_end), "") << layout.name;
    EXPECT_NE(resumed.at_end.difference(whole->state), "") << layout.name << ": nothing was trained";
  }
}

// What the load of another model says, on the ranks of `layout`.
std::string refusal(FileSystem& disk, const std::string& directory, const Layout& layout, const std::string& change) {
  auto overrides = layout.overrides;
  overrides.push_back(change);
  const Config config = parse_config(kConfig, "reshard.toml", overrides);
  const DatasetFiles data = files();
  try {
    run_in_process(layout.ranks, [&](Communicator& world) {
      LayoutTrainer trainer(world, config, data);
      load(trainer, disk, directory);
    });
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data) << change;
    return error.what();
  }
  return {};
}

TEST_F(Reshard, AnotherModelIsRefusedByTensorEvenIfTheConfigurationWereNotLookedAt) {
  const Layout one{"one", 1, {"parallel.data=1"}};
  const Layout sharded{"dp2z3", 2, {"parallel.data=2", "parallel.zero=3"}};
  save_in(one);
  for (const auto& [change, tensor] :
       std::vector<std::pair<std::string, std::string>>{{"model.width=48", "embedding.weight"},
                                                        {"model.mlp_width=96", "mlp.gate.weight"},
                                                        {"model.kv_heads=4", "attention.k.weight"},
                                                        {"model.layers=3", "layers.2."},
                                                        {"model.tie_embeddings=false", "head.weight"},
                                                        {"optim.name=sgd", "optim.m/"},
                                                        {"model.layers=1", "layers.1."},
                                                        {"attention.qk_norm=none", "attention.k_norm.weight"}}) {
    for (const Layout& layout : {one, sharded}) {
      const std::string said = refusal(disk_, directory(one), layout, change);
      EXPECT_NE(said.find(tensor), std::string::npos) << change << " in " << layout.name << ": " << said;
    }
  }
}

}  // namespace
}  // namespace farsight
