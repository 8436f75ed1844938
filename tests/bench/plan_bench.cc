// SPDX-License-Identifier: Apache-2.0
// The planner against reality: peak memory of a training step and its time, planned and measured, for twelve layouts.
//
//   plan_bench                  threads as ranks, all layouts; memory is the peak of the process divided by the ranks
//   mpirun -np 4 plan_bench     processes as ranks, the layouts of 4 ranks; memory is the largest peak of a rank
//
// Kernels and communication are measured in the same run. MISS: memory more than 10 %, time more than 20 % off; the
// layout planned as fastest more than 10 % slower than the fastest.
// Beside the time of the fastest step stands the processor time of the cheapest, which others on the machine do not
// stretch.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "kernels/allocator.h"
#include "kernels/parallel_for.h"
#include "parallel/comm_measure.h"
#include "parallel/inproc_comm.h"
#include "parallel/mpi_comm.h"
#include "tests/parity/parity_case.h"
#include "trainer/bench_comm.h"
#include "trainer/bench_kernels.h"
#include "trainer/cost_model.h"
#include "trainer/layout_trainer.h"
#include "trainer/step_time.h"

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

const char* const kMemoryModel =
    "sequence = 1024\n[model]\nlayers = 4\nwidth = 256\nheads = 8\nkv_heads = 4\nvocab = 4096\n"
    "[train]\nbatch = \"4 samples\"\nmicro_batch = 1\n";
// Steps short enough for one of them to be undisturbed on a machine that others use too.
const char* const kTimeModel =
    "sequence = 512\n[model]\nlayers = 2\nwidth = 256\nheads = 8\nkv_heads = 4\nvocab = 1024\n"
    "[train]\nbatch = \"4 samples\"\nmicro_batch = 1\n";

Config bench_config(const BenchLayout& layout, const char* model) {
  return parse_config("[data]\ntrain = [\"" + generated_corpus() + "\"]\n" + model, "bench.toml", layout.overrides);
}

struct Measured {
  double bytes = 0.0, seconds = 0.0;
  double cpu_seconds = 0.0;  // processor time of all ranks for the cheapest step, over the cores they can use
  MemoryStats stats;
};

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// `shared`: the ranks are threads of one process. Peak of all steps but the first, time of the fastest.
Measured measure(Communicator& world, const Config& config, const DatasetFiles& files, bool shared, int steps) {
  LayoutTrainer trainer(world, config, files);
  const auto step = [&] {
    trainer.accumulate();
    trainer.update(config.optim.lr);
  };
  Measured result;
  step();
  world.barrier();
  if (!shared || world.rank() == 0) host_allocator().reset_peak();
  for (int i = 0; i < steps; ++i) {
    world.barrier();
    const double before = processor_seconds();
    const double seconds = slowest_seconds(world, step);
    double used = processor_seconds() - before;
    if (!shared) world.all_reduce(std::span<double>(&used, 1), ReduceOp::sum);
    used /= std::min(static_cast<double>(world.size()), static_cast<double>(std::thread::hardware_concurrency()));
    if (i == 0 || seconds < result.seconds) result.seconds = seconds;
    if (i == 0 || used < result.cpu_seconds) result.cpu_seconds = used;
  }
  world.barrier();
  result.stats = host_allocator().stats();
  result.bytes = static_cast<double>(result.stats.peak_bytes) / (shared ? world.size() : 1);
  world.all_reduce(std::span<double>(&result.bytes, 1), ReduceOp::max);
  world.barrier();
  return result;
}

double mib(double bytes) { return bytes / (1 << 20); }

void print_memory(const BenchLayout& layout, const Config& config, const Measured& m) {
  const MemoryPlan plan = memory_plan(config, resolve_layout(config, layout.ranks), config.model.vocab);
  const auto expected = static_cast<double>(plan.expected());
  const double ratio = expected / m.bytes;
  fmt::print("{:<16} memory   plan {:7.2f} MiB  measured {:7.2f} MiB  ratio {:.3f}{}  (fullest: {})\n", layout.name,
             mib(expected), mib(m.bytes), ratio, std::abs(ratio - 1.0) > 0.1 ? "  MISS" : "", plan.moment);
  std::fflush(stdout);
}

struct Judged {
  const BenchLayout* layout;
  double planned, measured;  // seconds
};

double print_time(const BenchLayout& layout, const Config& config, const Measured& m, const Calibration& calibration) {
  const RunLayout run = resolve_layout(config, layout.ranks);
  const RankParameters parameters = largest_rank_parameters(config, run, config.model.vocab);
  const StepTime plan = step_time(config, run, config.model.vocab, calibration, 0, parameters);
  const double ratio = plan.total() / m.seconds, quiet = plan.total() / m.cpu_seconds;
  fmt::print(
      "{:<16} step     plan {:7.1f} ms   measured {:7.1f} ms   ratio {:.2f}{}   processor time {:.1f} ms, ratio {:.2f} "
      " "
      "(arithmetic {:.1f}, exposed {:.1f})\n",
      layout.name, plan.total() * 1e3, m.seconds * 1e3, ratio, std::abs(ratio - 1.0) > 0.2 ? "  MISS" : "",
      m.cpu_seconds * 1e3, quiet, plan.compute() * 1e3, plan.exposed * 1e3);
  std::fflush(stdout);
  return plan.total();
}

// What the planner would have taken of the layouts of as many ranks, and what would have been best.
void print_choices(const std::vector<Judged>& all) {
  for (const int ranks : {1, 2, 4}) {
    std::vector<Judged> these;
    std::ranges::copy_if(all, std::back_inserter(these), [&](const Judged& j) { return j.layout->ranks == ranks; });
    if (these.size() < 2) continue;
    const Judged chosen = *std::ranges::min_element(these, {}, &Judged::planned);
    const Judged best = *std::ranges::min_element(these, {}, &Judged::measured);
    const double ratio = chosen.measured / best.measured;
    fmt::print("{} ranks: planned as fastest {} ({:.1f} ms measured), fastest {} ({:.1f} ms): {:.3f}{}\n", ranks,
               chosen.layout->name, chosen.measured * 1e3, best.layout->name, best.measured * 1e3, ratio,
               ratio > 1.1 ? "  MISS" : "");
  }
}

void run_layout_on(Communicator& world, const BenchLayout& layout, const DatasetFiles& files, bool shared,
                   Calibration calibration, std::vector<Judged>& judged) {
  if (world.size() > 1) calibration.comm = measure_comm(world, {}, 0);
  const Config large = bench_config(layout, kMemoryModel), small = bench_config(layout, kTimeModel);
  const Measured memory = measure(world, large, files, shared, 2);
  const Measured time = measure(world, small, files, shared, 15);
  if (world.rank() != 0) return;
  print_memory(layout, large, memory);
  judged.push_back({&layout, print_time(layout, small, time, calibration), time.seconds});
}

DatasetFiles corpus() {
  DatasetFiles files;
  files.train = {probe_corpus(generated_corpus())};
  return files;
}

void run_threads() {
  const DatasetFiles files = corpus();
  const Calibration calibration = measure_kernels({});
  std::vector<Judged> judged;
  for (const BenchLayout& layout : bench_layouts()) {
    run_in_process(layout.ranks, [&](Communicator& world) {
      run_layout_on(world, layout, files, /*shared=*/true, calibration, judged);
    });
  }
  print_choices(judged);
}

// The layouts of exactly this many ranks. Every process makes the corpus before MPI starts.
void run_processes() {
  const DatasetFiles files = corpus();
  MpiSession session(nullptr, nullptr);
  Communicator& world = session.world();
  Calibration calibration;
  // One rank measures for all: it starts as many threads as there are cores.
  if (world.rank() == 0) calibration = measure_kernels({});
  world.barrier();
  std::vector<Judged> judged;
  for (const BenchLayout& layout : bench_layouts()) {
    if (layout.ranks == world.size()) run_layout_on(world, layout, files, /*shared=*/false, calibration, judged);
  }
  print_choices(judged);
}

}  // namespace
}  // namespace farsight

int main() {
  farsight::set_thread_count(1);
  if (farsight::launched_ranks() > 1) {
    farsight::run_processes();
  } else {
    farsight::run_threads();
  }
  return 0;
}
