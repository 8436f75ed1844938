// SPDX-License-Identifier: Apache-2.0
// The planner against reality: peak memory of a training step and its time, planned and measured, for twelve layouts.
//
//   plan_bench                          threads as ranks; memory is the process's peak divided by the ranks
//   mpirun -np 4 plan_bench             one process per rank: each rank's own peak
//
// Prints one line per layout; MISS where memory is more than 10 % off.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "kernels/allocator.h"
#include "kernels/error.h"
#include "parallel/comm_measure.h"
#include "parallel/inproc_comm.h"
#include "parallel/mpi_comm.h"
#include "tests/parity/parity_case.h"
#include "trainer/cost_model.h"
#include "trainer/layout_trainer.h"

namespace farsight {
namespace {

struct BenchLayout {
  const char* name;
  int ranks;
  std::vector<std::string> overrides;
};

const std::vector<BenchLayout>& bench_layouts() {
  static const std::vector<BenchLayout> all{
      {"1", 1, {}},
      {"1 recompute", 1, {"train.recompute=layer"}},
      {"1 mlp_chunk", 1, {"train.mlp_chunk=128"}},
      {"dp2", 2, {"parallel.data=2"}},
      {"dp2 zero1", 2, {"parallel.data=2", "parallel.zero=1"}},
      {"dp2 zero2", 2, {"parallel.data=2", "parallel.zero=2"}},
      {"dp4 zero3", 4, {"parallel.data=4", "parallel.zero=3"}},
      {"tp2 sp", 2, {"parallel.tensor=2"}},
      {"tp4", 4, {"parallel.tensor=4", "parallel.sequence_parallel=false"}},
      {"ring2 zigzag", 2, {"parallel.ring=2", "parallel.order=zigzag"}},
      {"ring4 allgather", 4, {"parallel.ring=4", "parallel.context=allgather"}},
      {"ulysses2", 2, {"parallel.ulysses=2"}},
      {"ring2 ulysses2", 4, {"parallel.ring=2", "parallel.ulysses=2", "parallel.order=striped"}},
      {"tp2 sp ring2", 4, {"parallel.tensor=2", "parallel.ring=2", "parallel.order=zigzag"}},
      {"dp2 tp2 zero3", 4, {"parallel.data=2", "parallel.tensor=2", "parallel.zero=3"}},
  };
  return all;
}

Config bench_config(const BenchLayout& layout) {
  std::vector<std::string> overrides = layout.overrides;
  return parse_config("[data]\ntrain = [\"" + generated_corpus() +
                          "\"]\nsequence = 1024\n[model]\nlayers = 4\nwidth = 256\nheads = 8\nkv_heads = 4\n"
                          "vocab = 4096\n[train]\nbatch = \"4 samples\"\nmicro_batch = 1\n",
                      "bench.toml", overrides);
}

struct Measured {
  double bytes = 0.0, seconds = 0.0;
  MemoryStats stats;
};

// `shared`: the ranks are threads of one process.
Measured measure(Communicator& world, const Config& config, const DatasetFiles& files, bool shared) {
  LayoutTrainer trainer(world, config, files);
  const auto step = [&] {
    auto outcome = trainer.accumulate();
    trainer.update(outcome, config.optim.lr);
  };
  Measured result;
  step();
  for (int i = 0; i < 3; ++i) {
    world.barrier();
    if (!shared || world.rank() == 0) host_allocator().reset_peak();
    world.barrier();
    const double seconds = slowest_seconds(world, step);
    if (i == 0 || seconds < result.seconds) result.seconds = seconds;
  }
  world.barrier();
  result.stats = host_allocator().stats();
  result.bytes = static_cast<double>(result.stats.peak_bytes) / (shared ? world.size() : 1);
  world.all_reduce(std::span<double>(&result.bytes, 1), ReduceOp::max);
  world.barrier();
  return result;
}

void print(const BenchLayout& layout, const Config& config, const Measured& m) {
  const RunLayout run = resolve_layout(config, layout.ranks);
  const MemoryPlan plan = memory_plan(config, run, config.model.vocab);
  const auto expected = static_cast<double>(plan.expected());
  const double ratio = expected / m.bytes;
  fmt::print("{:<16} memory plan {:7.2f} MiB  measured {:7.2f} MiB  plan/measured {:.3f}{}  ({})  step {:.1f} ms\n",
             layout.name, expected / (1 << 20), m.bytes / (1 << 20), ratio, std::abs(ratio - 1.0) > 0.1 ? " MISS" : "",
             plan.moment, m.seconds * 1e3);
  if (std::getenv("PLAN_BENCH_TAGS") != nullptr) {
    for (const auto& [tag, bytes] : m.stats.peak_by_tag)
      fmt::print("    {:<14} {:8.2f}\n", to_string(tag), static_cast<double>(bytes) / (1 << 20));
    for (const auto& [name, bytes] : {std::pair{"weights", plan.weights},
                                      {"gradients", plan.gradients},
                                      {"optimizer", plan.optimizer},
                                      {"kept", plan.activations},
                                      {"working", plan.working},
                                      {"loss", plan.loss},
                                      {"exchange", plan.exchange}})
      fmt::print("    plan {:<14} {:8.2f}\n", name, static_cast<double>(bytes) / (1 << 20));
  }
  std::fflush(stdout);
}

void run_threads() {
  DatasetFiles files;
  files.train = {probe_corpus(generated_corpus())};
  for (const BenchLayout& layout : bench_layouts()) {
    const Config config = bench_config(layout);
    run_in_process(layout.ranks, [&](Communicator& world) {
      const Measured m = measure(world, config, files, /*shared=*/true);
      if (world.rank() == 0) print(layout, config, m);
    });
  }
}

}  // namespace
}  // namespace farsight

int main() {
  farsight::run_threads();
  return 0;
}
