// SPDX-License-Identifier: Apache-2.0
// Our collectives and ring exchange against those of the MPI library, in the same run and on the same buffers:
//   launch/mpirun -n 2 build/release/comm_bench [--min BYTES] [--max BYTES] [--only all_reduce]
//     [--messages] [--window BYTES] [--shared-from BYTES]
// Ours and the library's calls alternate. Columns: median time of the slowest rank, GB/s (bytes / time; what bytes
// counts says parallel/comm_measure.h), ratio of the medians MPI / ours (above 1: ours is faster) and its range over
// the middle half of the pairs. Results are checked before they are timed. Then alpha and beta of every operation.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <mpi.h>

#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "parallel/comm_measure.h"
#include "parallel/mpi_comm.h"

namespace farsight {
namespace {

struct Settings {
  CommOptions comm;
  int64_t smallest = 16, largest = int64_t{128} << 20;
  std::string only;
};

void run_mpi(Communicator& world, CommPattern pattern, CommProbe& probe) {
  const int n = world.size();
  const int bytes = static_cast<int>(probe.bytes());
  const int piece = static_cast<int>(probe.piece_bytes());
  std::byte* in = probe.input().data();
  std::byte* out = probe.output().data();
  switch (pattern) {
    case CommPattern::all_reduce:
      MPI_Allreduce(MPI_IN_PLACE, out, bytes / 4, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      return;
    case CommPattern::reduce_scatter:
      MPI_Reduce_scatter_block(in, out, piece / 4, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      return;
    case CommPattern::all_gather:
      MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, out, piece, MPI_BYTE, MPI_COMM_WORLD);
      return;
    case CommPattern::all_to_all:
      MPI_Alltoall(in, piece, MPI_BYTE, out, piece, MPI_BYTE, MPI_COMM_WORLD);
      return;
    case CommPattern::ring:
      MPI_Sendrecv(in, bytes, MPI_BYTE, (world.rank() + 1) % n, 1, out, bytes, MPI_BYTE, (world.rank() + n - 1) % n, 1,
                   MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      return;
  }
}

// Both give the same on small whole numbers, whatever the order of the sum.
void check(Communicator& world, CommPattern pattern, CommProbe& probe) {
  const auto fill = [&] {
    for (auto* span : {&probe}) {
      const auto in = span->input(), out = span->output();
      for (size_t i = 0; i + 4 <= out.size(); i += 4) std::memset(out.data() + i, 0, 4);
      for (size_t i = 0; i + 4 <= in.size(); i += 4) {
        const auto x = static_cast<float>((static_cast<size_t>(world.rank()) + i / 4) % 97);
        std::memcpy(in.data() + i, &x, 4);
      }
    }
  };
  fill();
  probe.run();
  const std::vector<std::byte> ours(probe.output().begin(), probe.output().end());
  fill();
  run_mpi(world, pattern, probe);
  if (!std::equal(ours.begin(), ours.end(), probe.output().begin())) {
    fail(ErrorKind::internal, "comm_bench: {} of {} bytes differs from MPI's", to_string(pattern), probe.bytes());
  }
  std::fill(probe.input().begin(), probe.input().end(), std::byte{0});
  std::fill(probe.output().begin(), probe.output().end(), std::byte{0});
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

// Returns our median.
double compare(Communicator& world, CommPattern pattern, int64_t bytes) {
  CommProbe probe(world, pattern, bytes);
  check(world, pattern, probe);
  const int repeats = bytes < (1 << 20) ? 301 : bytes < (32 << 20) ? 51 : 21;
  std::vector<double> ours, mpi, ratios;
  for (int i = -1; i < repeats; ++i) {
    const double a = slowest_seconds(world, [&] { probe.run(); });
    const double b = slowest_seconds(world, [&] { run_mpi(world, pattern, probe); });
    if (i < 0) continue;
    ours.push_back(a), mpi.push_back(b), ratios.push_back(b / a);
  }
  const double a = quantile(ours, 0.5), b = quantile(mpi, 0.5);
  if (world.rank() == 0) {
    std::printf("%-14s %5d %10lld  %10.1f us %7.2f GB/s  MPI %10.1f us %7.2f GB/s  ratio %5.2f  (%.2f to %.2f)\n",
                to_string(pattern), world.size(), static_cast<long long>(probe.bytes()), a * 1e6,
                static_cast<double>(probe.bytes()) / a * 1e-9, b * 1e6, static_cast<double>(probe.bytes()) / b * 1e-9,
                b / a, quantile(ratios, 0.25), quantile(ratios, 0.75));
    std::fflush(stdout);
  }
  return a;
}

void run(Communicator& world, const Settings& settings) {
  std::vector<std::pair<CommPattern, CommCost>> costs;
  for (const CommPattern pattern : kCommPatterns) {
    if (!settings.only.empty() && settings.only != to_string(pattern)) continue;
    std::vector<CommSample> samples;
    for (int64_t bytes = settings.smallest; bytes <= settings.largest; bytes *= bytes >= (16 << 20) ? 2 : 8) {
      samples.push_back({bytes, compare(world, pattern, bytes)});
    }
    costs.emplace_back(pattern, fit_cost(samples));
  }
  if (world.rank() != 0) return;
  for (const auto& [pattern, cost] : costs) {
    std::printf("%-14s %5d ranks: alpha %.2e s, beta %.3e s/byte (%.2f GB/s)\n", to_string(pattern), world.size(),
                cost.alpha_s, cost.beta_s_per_byte, 1e-9 / cost.beta_s_per_byte);
  }
}

Settings read_settings(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (word == "--messages") {
      settings.comm.shared_bytes = std::numeric_limits<int64_t>::max();
      continue;
    }
    ++i;
    if (word == "--min") settings.smallest = std::max(1LL, std::atoll(value));
    if (word == "--max") settings.largest = std::atoll(value);
    if (word == "--only") settings.only = value;
    if (word == "--window") settings.comm.window_bytes = std::atoll(value);
    if (word == "--shared-from") settings.comm.shared_bytes = std::atoll(value);
  }
  return settings;
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) {
  const farsight::Settings settings = farsight::read_settings(argc, argv);
  farsight::MpiSession session(&argc, &argv, settings.comm);
  try {
    if (session.world().rank() == 0) std::printf("%s\n", session.sharing().c_str());
    farsight::run(session.world(), settings);
  } catch (const farsight::Error& e) {
    std::fprintf(stderr, "comm_bench: %s\n", e.what());
    session.world().abort(farsight::exit_code(e.kind()));
  }
  return 0;
}
