// SPDX-License-Identifier: Apache-2.0
// Bandwidth of our all-reduce and of a ring exchange against the MPI library's own, in the same run:
//   mpirun -n 2 --bind-to core comm_bench [staging bytes of all_reduce]
// Columns: size, time per call of the slowest rank (best and median of the repeats), GB/s of payload per rank at the
// best, and the ratio of the best times, MPI / ours (above 1: ours is faster).
// Results are checked before they are timed.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include <mpi.h>

#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "parallel/mpi_comm.h"

namespace farsight {
namespace {

struct Seconds {
  double best, median;
};

Seconds measure(Communicator& world, int repeats, const std::function<void()>& body) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    world.barrier();
    const auto started = std::chrono::steady_clock::now();
    body();
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    world.all_reduce(std::span<double>(&seconds, 1), ReduceOp::max);
    times.push_back(seconds);
  }
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2]};
}

void report(Communicator& world, const char* what, int64_t bytes, Seconds ours, Seconds reference) {
  if (world.rank() != 0) return;
  const auto rate = [bytes](const Seconds& s) { return static_cast<double>(bytes) / s.best * 1e-9; };
  std::printf(
      "%-10s %10lld B  ours %9.1f us (median %9.1f) %5.2f GB/s   MPI %9.1f us (%9.1f) %5.2f GB/s   ratio %.2f\n", what,
      static_cast<long long>(bytes), ours.best * 1e6, ours.median * 1e6, rate(ours), reference.best * 1e6,
      reference.median * 1e6, rate(reference), reference.best / ours.best);
}

void check_sum(Communicator& world, std::vector<float>& data) {
  std::fill(data.begin(), data.end(), 1.0F);
  world.all_reduce(std::span<float>(data), ReduceOp::sum);
  for (const float x : data) {
    if (x != static_cast<float>(world.size())) fail(ErrorKind::internal, "comm_bench: wrong sum {}", x);
  }
}

void bench_all_reduce(Communicator& world, int64_t bytes) {
  std::vector<float> data(static_cast<size_t>(bytes) / sizeof(float));
  check_sum(world, data);
  std::fill(data.begin(), data.end(), 0.0F);
  const int repeats = bytes < (1 << 20) ? 301 : 31;
  const Seconds ours = measure(world, repeats, [&] { world.all_reduce(std::span<float>(data), ReduceOp::sum); });
  const Seconds mpi = measure(world, repeats, [&] {
    MPI_Allreduce(MPI_IN_PLACE, data.data(), static_cast<int>(data.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  });
  report(world, "all_reduce", bytes, ours, mpi);
}

void bench_ring(Communicator& world, int64_t bytes) {
  std::vector<std::byte> out(static_cast<size_t>(bytes), std::byte{1}), in(out.size());
  const int n = world.size();
  const int right = (world.rank() + 1) % n, left = (world.rank() + n - 1) % n;
  const int repeats = bytes < (1 << 20) ? 301 : 31;
  const Seconds ours = measure(world, repeats, [&] {
    auto receiving = world.receive(in, left, 1);
    auto sending = world.send(out, right, 1);
    receiving->wait();
    sending->wait();
  });
  if (in != out) fail(ErrorKind::internal, "comm_bench: the ring delivered something else");
  const Seconds mpi = measure(world, repeats, [&] {
    MPI_Sendrecv(out.data(), static_cast<int>(bytes), MPI_BYTE, right, 2, in.data(), static_cast<int>(bytes), MPI_BYTE,
                 left, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  });
  report(world, "ring", bytes, ours, mpi);
}

void run(Communicator& world) {
  if (world.size() == 1) fail(ErrorKind::usage, "comm_bench needs several ranks: mpirun -n 2 comm_bench");
  set_thread_count(1);
  for (const int64_t bytes : {int64_t{4}, int64_t{1} << 10, int64_t{64} << 10, int64_t{1} << 20, int64_t{8} << 20,
                              int64_t{32} << 20, int64_t{128} << 20}) {
    bench_all_reduce(world, bytes);
  }
  for (const int64_t bytes : {int64_t{1} << 10, int64_t{64} << 10, int64_t{1} << 20, int64_t{32} << 20}) {
    bench_ring(world, bytes);
  }
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) {
  farsight::CommOptions options;
  if (argc > 1) options.staging_bytes = std::atoll(argv[1]);
  farsight::MpiSession session(&argc, &argv, options);
  try {
    farsight::run(session.world());
  } catch (const farsight::Error& e) {
    std::fprintf(stderr, "comm_bench: %s\n", e.what());
    session.world().abort(farsight::exit_code(e.kind()));
  }
  return 0;
}
