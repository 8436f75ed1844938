// SPDX-License-Identifier: Apache-2.0
// What our attention graphs say, computed as written in fp64, equals the dense oracle. That the library takes a graph
// does not show this: it takes the opposite mask as well.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention/cudnn_graph_cuda.h"
#include "tests/kernels/graph_interpreter_cuda.h"
#include "tests/kernels/sdpa_case.h"

namespace farsight::testing {
namespace {

using cuda::SdpaTensor;
using Vec = std::vector<double>;

// fp32 scale; everything else is exact to fp64.
constexpr double kTolerance = 1e-9;

class Reading {
 public:
  explicit Reading(const SdpaProblem& problem) : p(problem), a(problem.a) {
    a.q_stride = a.heads * a.width;
    a.k_stride = a.kv_heads * a.width;
    a.v_stride = a.kv_heads * a.value_width;
    if (!p.packed()) return;
    const SdpaDocumentList& d = p.documents;
    a.packing = {d.q_starts.data(), d.k_starts.data(), p.q_rows(), p.k_rows(), d.lse_tokens, d.align_ends};
  }

  GraphInterpreter forward() {
    CudaSdpaForward f{};
    f.a = a;
    f.out_stride = a.heads * a.value_width;
    graph_ = cuda::sdpa_forward_graph(f, nullptr);
    return given();
  }
  GraphInterpreter backward(const DenseForward& results) {
    CudaSdpaBackward b{};
    b.a = a;
    b.out_stride = b.dout_stride = a.heads * a.value_width;
    b.dq_type = p.dq_type;
    b.dq_stride = a.q_stride;
    b.dk_stride = a.k_stride;
    b.dv_stride = a.v_stride;
    graph_ = cuda::sdpa_backward_graph(b, nullptr);
    GraphInterpreter g = given();
    g.memory(SdpaTensor::out) = results.out;
    g.memory(SdpaTensor::dout) = p.dout;
    g.memory(SdpaTensor::lse) = results.lse;
    return g;
  }

 private:
  GraphInterpreter given() {
    GraphInterpreter g(graph_);
    const SdpaBand band = sdpa_band(a);
    g.memory(SdpaTensor::q) = p.dense.q;
    g.memory(SdpaTensor::k) = p.dense.k;
    g.memory(SdpaTensor::v) = p.dense.v;
    g.memory(SdpaTensor::scale) = {static_cast<double>(a.scale)};
    g.memory(SdpaTensor::minus_infinity) = {-std::numeric_limits<double>::infinity()};
    g.memory(SdpaTensor::one) = {1.0};
    g.memory(SdpaTensor::right_shift) = {static_cast<double>(band.right_shift)};
    g.memory(SdpaTensor::left_shift) = {static_cast<double>(band.left_shift)};
    if (p.packed()) place_documents(g);
    return g;
  }
  void place_documents(GraphInterpreter& g) const {
    const SdpaDocumentList& d = p.documents;
    for (size_t n = 0; n + 1 < d.q_starts.size(); ++n) {
      g.memory(SdpaTensor::q_lengths).push_back(d.q_starts[n + 1] - d.q_starts[n]);
      g.memory(SdpaTensor::k_lengths).push_back(d.k_starts[n + 1] - d.k_starts[n]);
    }
    const auto offsets = [&](SdpaTensor of, const std::vector<int32_t>& starts, int64_t stride) {
      for (const int32_t s : starts) g.memory(offsets_of(of)).push_back(static_cast<double>(s * stride));
    };
    const int64_t value = a.heads * a.value_width;
    for (const SdpaTensor t : {SdpaTensor::q, SdpaTensor::dq, SdpaTensor::dq_sum}) offsets(t, d.q_starts, a.q_stride);
    for (const SdpaTensor t : {SdpaTensor::out, SdpaTensor::dout}) offsets(t, d.q_starts, value);
    for (const SdpaTensor t : {SdpaTensor::k, SdpaTensor::dk}) offsets(t, d.k_starts, a.k_stride);
    for (const SdpaTensor t : {SdpaTensor::v, SdpaTensor::dv}) offsets(t, d.k_starts, a.v_stride);
    for (const SdpaTensor t : {SdpaTensor::lse, SdpaTensor::row_term}) {
      for (const int32_t s : d.q_starts) {
        const int64_t row = s / d.lse_tokens * d.lse_tokens;
        g.memory(offsets_of(t)).push_back(static_cast<double>(row * a.heads + s - row));
      }
    }
  }

  const SdpaProblem& p;
  CudaSdpa a;
  cuda::SdpaGraph graph_;
};

void expect_same(const Vec& got, const Vec& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  double worst = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - expected[i]);
    worst = error <= worst ? worst : error;  // a NaN sticks
  }
  EXPECT_LE(worst, kTolerance) << what;
}

void expect_meaning(const SdpaProblem& p) {
  const DenseForward expected = dense_forward(p.dense);
  const Vec zeros(expected.lse.size(), 0.0);
  const DenseGradients gradients = dense_backward(p.dense, expected, p.dout, zeros, zeros);
  Reading reading(p);
  GraphInterpreter forward = reading.forward();
  forward.run();
  expect_same(forward.memory(SdpaTensor::out), expected.out, "out " + p.text());
  expect_same(forward.memory(SdpaTensor::lse), expected.lse, "lse " + p.text());
  GraphInterpreter backward = reading.backward(expected);
  backward.run();
  expect_same(backward.memory(SdpaTensor::dq), gradients.dq, "dq " + p.text());
  expect_same(backward.memory(SdpaTensor::dk), gradients.dk, "dk " + p.text());
  expect_same(backward.memory(SdpaTensor::dv), gradients.dv, "dv " + p.text());
}

TEST(CudnnMeaning, GraphsSayWhatTheOracleSays) {
  int taken = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SdpaProblem p = random_sdpa(seed, 12);
    Reading shape(p);
    p.a.q_stride = p.a.heads * p.a.width;
    p.a.k_stride = p.a.kv_heads * p.a.width;
    p.a.v_stride = p.a.kv_heads * p.a.value_width;
    if (sdpa_refusal(p.a, /*backward=*/true, {91900, 90}) != nullptr) continue;
    expect_meaning(p);
    ++taken;
  }
  EXPECT_GE(taken, 25);
}

TEST(CudnnMeaning, PackedGraphsSayWhatTheOracleSays) {
  for (uint64_t seed = 100; seed < 112; ++seed) expect_meaning(random_packed_sdpa(seed));
  for (uint64_t seed = 200; seed < 204; ++seed) {
    SdpaProblem p = random_packed_sdpa(seed, /*most_rows=*/1);
    p.a.low = 0;
    p.a.high = seed % 2 == 0 ? kSdpaNoHigh : 5;
    p.a.shift = 0;
    lengthen_keys(p, seed);
    expect_meaning(p);
  }
}

}  // namespace
}  // namespace farsight::testing
