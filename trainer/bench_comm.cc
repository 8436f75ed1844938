// SPDX-License-Identifier: Apache-2.0
#include "trainer/bench_comm.h"

#include <algorithm>
#include <array>
#include <functional>
#include <ostream>
#include <span>
#include <string>

#include <fmt/format.h>

#include "parallel/mpi_comm.h"
#include "trainer/agreed_error.h"
#include "trainer/parallel_command.h"

namespace farsight {
namespace {

std::vector<int64_t> group_sizes(int64_t world) {
  std::vector<int64_t> sizes;
  for (int64_t n = 2; n < world; n *= 2) {
    if (world % n == 0) sizes.push_back(n);
  }
  sizes.push_back(world);
  return sizes;
}

// Ranks that share a host with rank 0; all nodes are taken to hold as many.
int64_t count_node_ranks(Communicator& world) {
  const auto host = static_cast<int64_t>(std::hash<std::string>()(host_name()) & 0x7FFFFFFF);
  int64_t first = host;
  world.broadcast(std::as_writable_bytes(std::span<int64_t>(&first, 1)), 0);
  int64_t same = host == first ? 1 : 0;
  world.all_reduce(std::span<int64_t>(&same, 1), ReduceOp::sum);
  return same;
}

std::string size_text(double bytes_per_s) { return fmt::format("{:8.2f} GB/s", bytes_per_s / 1e9); }

}  // namespace

std::vector<CommRate> measure_comm(Communicator& world, const BenchCommOptions& options, int64_t ranks_per_node) {
  std::vector<CommRate> rates;
  for (const int64_t n : group_sizes(world.size())) {
    const auto group = world.split(static_cast<int>(world.rank() / n), world.rank(), "bench");
    for (const CommPattern pattern : kCommPatterns) {
      CommRate rate{pattern, n, ranks_per_node > 0 && n > ranks_per_node, {}};
      rate.cost = measure_cost(*group, pattern, options.largest, options.repeats);
      // The slowest group counts.
      std::array<double, 2> cost{rate.cost.alpha_s, rate.cost.beta_s_per_byte};
      world.all_reduce(std::span<double>(cost), ReduceOp::max);
      rate.cost = {cost[0], cost[1]};
      rates.push_back(rate);
    }
  }
  return rates;
}

int bench_comm(const BenchCommOptions& options, bool json, std::ostream& out, std::ostream& err) {
  return run_parallel(
      err, [] {},
      [&](Communicator& world) {
        agreed([&] {
          if (world.size() < 2)
            fail(ErrorKind::usage, "bench comm measures between ranks; for example: mpirun -np 2 farsight bench comm");
        });
        const int64_t node = count_node_ranks(world);
        const auto rates = measure_comm(world, options, node);
        if (world.rank() != 0) return 0;
        if (json) {
          Calibration c;
          c.comm = rates;
          c.ranks_per_node = node;
          out << calibration_json(c);
          return 0;
        }
        out << fmt::format("{:<16} {:>6} {:>12} {:>14}\n", "pattern", "ranks", "start", "then");
        for (const CommRate& r : rates)
          out << fmt::format("{:<16} {:>6} {:>9.1f} us {}{}\n", to_string(r.pattern), r.ranks, r.cost.alpha_s * 1e6,
                             r.cost.beta_s_per_byte > 0.0 ? size_text(1.0 / r.cost.beta_s_per_byte) : "no limit",
                             r.across ? "  across nodes" : "");
        return 0;
      });
}

}  // namespace farsight
