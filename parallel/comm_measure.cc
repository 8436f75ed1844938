// SPDX-License-Identifier: Apache-2.0
#include "parallel/comm_measure.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/error.h"

namespace farsight {

namespace {

Tensor zeros(int64_t bytes) {
  Tensor t = Tensor::empty({bytes}, DType::u8, MemoryTag::communication, Device::cpu);
  std::fill_n(static_cast<std::byte*>(t.raw()), bytes, std::byte{0});
  return t;
}

std::span<std::byte> bytes_of(const Tensor& t) {
  return {static_cast<std::byte*>(t.raw()), static_cast<size_t>(t.numel())};
}

std::span<float> floats_of(const Tensor& t) {
  return {static_cast<float*>(t.raw()), static_cast<size_t>(t.numel()) / sizeof(float)};
}

}  // namespace

const char* to_string(CommPattern pattern) {
  switch (pattern) {
    case CommPattern::all_reduce:
      return "all_reduce";
    case CommPattern::reduce_scatter:
      return "reduce_scatter";
    case CommPattern::all_gather:
      return "all_gather";
    case CommPattern::all_to_all:
      return "all_to_all";
    case CommPattern::ring:
      return "ring";
  }
  return "?";
}

CommProbe::CommProbe(Communicator& comm, CommPattern pattern, int64_t bytes) : comm_(comm), pattern_(pattern) {
  if (comm.size() < 2) fail(ErrorKind::usage, "communication is measured between several ranks; there is one");
  const auto unit = static_cast<int64_t>(sizeof(float)) * comm.size();
  bytes_ = std::max<int64_t>(1, (bytes + unit - 1) / unit) * unit;
  output_ = zeros(pattern == CommPattern::reduce_scatter ? piece_bytes() : bytes_);
  const bool in_place = pattern == CommPattern::all_reduce || pattern == CommPattern::all_gather;
  input_ = in_place ? output_ : zeros(bytes_);
}

std::span<std::byte> CommProbe::input() { return bytes_of(input_); }
std::span<std::byte> CommProbe::output() { return bytes_of(output_); }

void CommProbe::run() {
  const int n = comm_.size();
  const std::vector<int64_t> pieces(static_cast<size_t>(n), piece_bytes());
  switch (pattern_) {
    case CommPattern::all_reduce:
      return comm_.all_reduce(floats_of(output_), ReduceOp::sum);
    case CommPattern::reduce_scatter: {
      const std::vector<int64_t> counts(pieces.size(), piece_bytes() / static_cast<int64_t>(sizeof(float)));
      return comm_.reduce_scatter_async(floats_of(input_), floats_of(output_), counts, ReduceOp::sum)->wait();
    }
    case CommPattern::all_gather: {
      const auto mine =
          output().subspan(static_cast<size_t>(piece_bytes() * comm_.rank()), static_cast<size_t>(piece_bytes()));
      return comm_.all_gather_async(mine, output(), pieces)->wait();
    }
    case CommPattern::all_to_all:
      return comm_.all_to_all_async(input(), pieces, output(), pieces)->wait();
    case CommPattern::ring: {
      const RequestPtr receiving = comm_.receive(output(), (comm_.rank() + n - 1) % n, /*tag=*/0);
      comm_.send(input(), (comm_.rank() + 1) % n, /*tag=*/0)->wait();
      return receiving->wait();
    }
  }
}

double slowest_seconds(Communicator& comm, const std::function<void()>& body) {
  comm.barrier();
  const auto started = std::chrono::steady_clock::now();
  body();
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  comm.all_reduce(std::span<double>(&seconds, 1), ReduceOp::max);
  return seconds;
}

double measure_seconds(Communicator& comm, CommPattern pattern, int64_t bytes, int repeats) {
  CommProbe probe(comm, pattern, bytes);
  std::vector<double> times;
  probe.run();
  for (int i = 0; i < std::max(1, repeats); ++i) times.push_back(slowest_seconds(comm, [&] { probe.run(); }));
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

CommCost fit_cost(std::span<const CommSample> samples) {
  // Minimises the sum of ((alpha + beta b) / t - 1)^2: normal equations with u = 1/t, v = b/t.
  double uu = 0.0, uv = 0.0, vv = 0.0, u1 = 0.0, v1 = 0.0;
  for (const CommSample& s : samples) {
    if (s.seconds <= 0.0) continue;
    const double u = 1.0 / s.seconds;
    const double v = static_cast<double>(s.bytes) / s.seconds;
    uu += u * u, uv += u * v, vv += v * v, u1 += u, v1 += v;
  }
  if (uu == 0.0) fail(ErrorKind::internal, "fit_cost: no sample with a positive time");
  const double determinant = uu * vv - uv * uv;
  const CommCost flat{u1 / uu, 0.0};
  if (vv == 0.0 || determinant <= 1e-12 * uu * vv) return vv == 0.0 ? flat : CommCost{0.0, v1 / vv};
  const CommCost line{(u1 * vv - v1 * uv) / determinant, (v1 * uu - u1 * uv) / determinant};
  if (line.beta_s_per_byte < 0.0) return flat;
  return line.alpha_s < 0.0 ? CommCost{0.0, v1 / vv} : line;
}

CommCost measure_cost(Communicator& comm, CommPattern pattern, int64_t largest, int repeats) {
  std::vector<CommSample> samples;
  for (int64_t bytes = int64_t{1} << 10; bytes <= std::max(largest, int64_t{4} << 10); bytes *= 4) {
    samples.push_back({bytes, measure_seconds(comm, pattern, bytes, repeats)});
  }
  return fit_cost(samples);
}

}  // namespace farsight
