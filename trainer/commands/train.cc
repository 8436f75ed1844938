// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/train.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <ostream>
#include <span>

#include <fmt/format.h>

#include "kernels/fma_probe.h"
#include "parallel/mpi_comm.h"
#include "trainer/agreed_error.h"
#include "trainer/parallel_command.h"
#include "trainer/plan_auto.h"
#include "trainer/run_device.h"
#include "trainer/signals.h"
#include "trainer/task.h"
#include "trainer/train.h"

namespace farsight {
namespace {

// Peak of all ranks at once: of their devices, or measured with the threads of each. Step lines compare with it.
double ceiling(Communicator& world, const RunDevice& device, const Config& config) {
  const bool cpu = current_device() == Device::cpu;
  std::array<double, 1> flops{cpu ? measure_fma_peak() : device.peak_flops(config)};
  world.all_reduce(std::span<double>(flops), ReduceOp::sum);
  return flops[0];
}

// mpirun gives rank 0 a terminal of its own, whatever its own output is: under a launcher only the launcher knows, and
// launch/mpirun says so.
bool shows_progress() {
  if (isatty(STDOUT_FILENO) != 1 || std::getenv("NO_COLOR") != nullptr) return false;
  return launched_ranks() == 1 || std::getenv("FARSIGHT_TERMINAL") != nullptr;
}

// Replaces "auto" in parallel.*; files are known on rank 0. Collective.
void plan_automatic(Communicator& world, TrainRequest& request, std::ostream& out) {
  if (!has_automatic_layout(request.config)) return;
  const auto vocabulary = [&]() -> int64_t {
    const auto* corpus =
        request.files.train.empty() ? nullptr : std::get_if<CorpusDescriptor>(&request.files.train.front());
    return corpus == nullptr ? 0 : corpus->tokenizer.vocab_size;
  };
  request.config = agreed([&] { return choose_layout(request.config, world, vocabulary()); });
  const ParallelConfig& p = request.config.parallel;
  if (world.rank() == 0)
    out << fmt::format("layout planned for {} ranks: tensor {}, ulysses {}, ring {}, zero {}\n", world.size(), p.tensor,
                       p.ulysses, p.ring, p.zero);
}

}  // namespace

int run_train(const CommandArguments& arguments, std::ostream& out, std::ostream& err) {
  watch_stop_signals();
  TrainRequest request;
  const auto before = [&] {
    request.config = load_config(arguments.positional.at(0), arguments.overrides);
    request.resume = parse_resume(arguments.get("resume", "never"));
    if (request.config.checkpoint.verify == VerifyChoice::full) request.resume.level = VerifyLevel::full;
    request.command_line = arguments.line;
    request.terminal = shows_progress();
    if (!expected_root()) return;
    request.files = probe_dataset(request.config.data);
    // What the data do not allow is known before the run directory is touched.
    make_task(request.config, request.files, "");
  };
  return run_parallel(err, before, [&](Communicator& world) {
    const RunDevice device = agreed([&] { return RunDevice(request.config, world, /*training=*/true); });
    request.device = device.description();
    plan_automatic(world, request, out);
    request.ceiling_flops = ceiling(world, device, request.config);
    return train(device.world(), request, out).exit_code;
  });
}

}  // namespace farsight
