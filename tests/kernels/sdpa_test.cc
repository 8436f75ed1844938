// SPDX-License-Identifier: Apache-2.0
// Attention of the device's library against the dense fp64 oracle, through the plugin's table: cuDNN where
// FARSIGHT_CUDA_PLUGIN names the real plugin and there is a GPU, its definition on the emulated device.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention/sdpa_cuda.h"
#include "kernels/error.h"
#include "tests/kernels/attention_oracle.h"
#include "tests/kernels/gradient_check.h"
#include "tests/kernels/sdpa_case.h"
#include "tests/sanitized.h"

namespace farsight::testing {
namespace {

constexpr SdpaLibrary kHopper{91900, 90};
constexpr int64_t kMargin = 8;  // NaN columns on both sides of every matrix

int32_t* ints(const Tensor& t) { return static_cast<int32_t*>(t.raw()); }
float* floats(const Tensor& t) { return static_cast<float*>(t.raw()); }

Tensor result(int64_t rows, int64_t columns, DType type) {
  return Tensor::empty({rows, columns + 2 * kMargin}, type).narrow_last(kMargin, columns);
}

class SdpaOnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
    element() = DType::bf16;
    device_ = std::make_unique<CudaDevice>(0);
    scope_ = std::make_unique<CudaScope>(*device_);
    cuda_device().check("library", cuda_device().backend().sdpa_library(&library_));
    if (library_.version == 0) GTEST_SKIP() << "there is no cuDNN";
  }
  void TearDown() override { element() = DType::f32; }

  SdpaLibrary library_{};

 private:
  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<CudaScope> scope_;
};

// One call: tensors on the device, and what came out.
class Call {
 public:
  explicit Call(const SdpaProblem& problem) : p(problem), a(problem.a) {
    const DenseAttention& d = p.dense;
    q = to_tensor(d.q, {p.q_rows(), d.heads * d.width}, kMargin);
    k = to_tensor(d.k, {p.k_rows(), d.kv_heads * d.width}, kMargin);
    v = to_tensor(d.v, {p.k_rows(), d.kv_heads * d.value_width}, kMargin);
    dout = to_tensor(p.dout, {p.q_rows(), d.heads * d.value_width}, kMargin);
    out = result(p.q_rows(), d.heads * d.value_width, DType::bf16);
    lse = Tensor::empty({d.batch, d.heads, d.queries});
    a.q = q.raw();
    a.k = k.raw();
    a.v = v.raw();
    a.q_stride = q.row_stride();
    a.k_stride = k.row_stride();
    a.v_stride = v.row_stride();
    if (!p.packed()) return;
    q_starts = ids(p.documents.q_starts);
    k_starts = ids(p.documents.k_starts);
    a.packing = {ints(q_starts), ints(k_starts),         p.q_rows(),
                 p.k_rows(),     p.documents.lse_tokens, p.documents.align_ends};
  }

  void forward() {
    CudaSdpaForward f{a, out.raw(), out.row_stride(), floats(lse), nullptr, 0};
    const Tensor workspace = workspace_of({&f, nullptr, &f.workspace_bytes}, f.workspace_bytes);
    f.workspace = workspace.raw();
    cuda_device().run("attention", &CudaBackend::sdpa_forward, f);
  }
  void backward() {
    const DenseAttention& d = p.dense;
    dq = result(p.q_rows(), d.heads * d.width, p.dq_type);
    dk = result(p.k_rows(), d.kv_heads * d.width, DType::bf16);
    dv = result(p.k_rows(), d.kv_heads * d.value_width, DType::bf16);
    CudaSdpaBackward b{};
    b.a = a;
    b.out = out.raw();
    b.out_stride = out.row_stride();
    b.dout = dout.raw();
    b.dout_stride = dout.row_stride();
    b.lse = floats(lse);
    b.dq_type = p.dq_type;
    b.dq = dq.raw();
    b.dk = dk.raw();
    b.dv = dv.raw();
    b.dq_stride = dq.row_stride();
    b.dk_stride = dk.row_stride();
    b.dv_stride = dv.row_stride();
    const Tensor workspace = workspace_of({nullptr, &b, &b.workspace_bytes}, b.workspace_bytes);
    b.workspace = workspace.raw();
    cuda_device().run("attention backward", &CudaBackend::sdpa_backward, b);
  }

  const SdpaProblem& p;
  CudaSdpa a;
  Tensor q, k, v, dout, out, lse, dq, dk, dv, q_starts, k_starts;

 private:
  static Tensor workspace_of(const CudaSdpaPlan& plan, const int64_t& bytes) {
    cuda_device().run("attention plan", &CudaBackend::sdpa_plan, plan);
    return Tensor::empty({std::max<int64_t>(1, bytes)}, DType::u8, MemoryTag::attention);
  }
};

void expect_near(const Vec& got, const Vec& expected, double tolerance, double at_least, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  double largest = at_least, worst = 0.0;
  for (const double e : expected) largest = std::max(largest, std::isfinite(e) ? std::abs(e) : 0.0);
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] == expected[i]) continue;
    const double error = std::abs(got[i] - expected[i]) / largest;
    worst = error <= worst ? worst : error;  // a NaN sticks
  }
  EXPECT_LE(worst, tolerance) << what;
}

double largest_of(const std::vector<double>& x) {
  double m = 0.0;
  for (const double v : x) m = std::max(m, std::abs(v));
  return m;
}

// The weights and the score gradients have 8 bits on their way to the matrix units, the results as well.
void expect_oracle(const SdpaProblem& p) {
  Call run(p);
  run.forward();
  run.backward();
  const DenseForward forward = dense_forward(p.dense);
  const Vec zeros(forward.lse.size(), 0.0);
  const DenseGradients g = dense_backward(p.dense, forward, p.dout, zeros, zeros);
  expect_near(to_vec(run.out), forward.out, 0.008, 1e-3, "out " + p.text());
  expect_near(to_vec(run.lse), forward.lse, 1e-5, 1.0, "lse " + p.text());
  expect_near(to_vec(run.dq), g.dq, 0.02, 0.1 * largest_of(g.dq_terms), "dq " + p.text());
  expect_near(to_vec(run.dk), g.dk, 0.02, 0.1 * largest_of(g.dk_terms), "dk " + p.text());
  expect_near(to_vec(run.dv), g.dv, 0.02, 0.1, "dv " + p.text());
}

TEST_F(SdpaOnDevice, EqualsTheOracleOnRandomMasksAndShapes) {
  int taken = 0;
  for (uint64_t seed = 100; seed < (kSanitized ? 130 : 220); ++seed) {
    const SdpaProblem p = random_sdpa(seed, 48);
    Call shape(p);
    if (sdpa_refusal(shape.a, /*backward=*/true, library_) != nullptr) continue;
    expect_oracle(p);
    ++taken;
  }
  EXPECT_GE(taken, kSanitized ? 10 : 40);
}

TEST_F(SdpaOnDevice, EqualsTheOracleOnLongerRows) {
  if (kSanitized) return;  // sizes alone are new
  for (uint64_t seed = 300; seed < 312; ++seed) {
    SdpaProblem p = random_sdpa(seed, 200);
    Call shape(p);
    if (sdpa_refusal(shape.a, /*backward=*/true, library_) == nullptr) expect_oracle(p);
  }
}

TEST_F(SdpaOnDevice, PackedDocumentsEqualTheOracle) {
  for (uint64_t seed = 400; seed < (kSanitized ? 404 : 424); ++seed) expect_oracle(random_packed_sdpa(seed));
}

TEST_F(SdpaOnDevice, PackedDocumentsWithMoreKeysThanQueriesAreAlignedAtTheirEnds) {
  for (uint64_t seed = 500; seed < (kSanitized ? 502 : 508); ++seed) {
    SdpaProblem p = random_packed_sdpa(seed, /*most_rows=*/1);
    p.a.low = 0;
    p.a.high = seed % 2 == 0 ? kSdpaNoHigh : 5;
    p.a.shift = 0;
    lengthen_keys(p, seed);
    expect_oracle(p);
  }
}

// A ring of two: each key block with its own forward, the rest from the merged result.
TEST_F(SdpaOnDevice, KeyBlocksMergeByTheirLseAndTheirGradientsAddUp) {
  SdpaProblem whole = random_sdpa(7, 2);
  whole.a.batch = 1;
  whole.a.q_tokens = whole.a.k_tokens = 32;
  whole.a.low = kSdpaNoLow;
  whole.a.high = kSdpaNoHigh;
  whole.a.shift = 0;
  whole.a.deterministic = false;
  whole.dq_type = DType::f32;
  whole.dense = {};
  fill_sdpa(whole, 7);
  const DenseForward forward = dense_forward(whole.dense);
  const Vec zeros(forward.lse.size(), 0.0);
  const DenseGradients g = dense_backward(whole.dense, forward, whole.dout, zeros, zeros);

  Vec dq(whole.dense.q.size(), 0.0), sum(forward.lse.size(), 0.0);
  for (const int64_t first : {0, 16}) {
    SdpaProblem part = whole;
    part.a.k_tokens = part.dense.keys = 16;
    const auto half = [&](Vec& x, int64_t columns) {
      x = Vec(x.begin() + first * columns, x.begin() + (first + 16) * columns);
    };
    half(part.dense.k, whole.a.kv_heads * whole.a.width);
    half(part.dense.v, whole.a.kv_heads * whole.a.value_width);
    Call run(part);
    run.forward();
    const Vec lse = to_vec(run.lse);
    for (size_t i = 0; i < lse.size(); ++i) sum[i] += std::exp(lse[i] - forward.lse[i]);
    run.out = to_tensor(forward.out, {part.q_rows(), whole.a.heads * whole.a.value_width}, kMargin);
    assign(run.lse, forward.lse);
    run.backward();
    const Vec got = to_vec(run.dq);
    for (size_t i = 0; i < got.size(); ++i) dq[i] += got[i];
    Vec dk = g.dk, dv = g.dv;
    half(dk, whole.a.kv_heads * whole.a.width);
    half(dv, whole.a.kv_heads * whole.a.value_width);
    expect_near(to_vec(run.dk), dk, 0.02, 0.1 * largest_of(g.dk_terms), "dk");
    expect_near(to_vec(run.dv), dv, 0.02, 0.1, "dv");
  }
  expect_near(sum, Vec(sum.size(), 1.0), 1e-5, 1.0, "weights of the blocks");
  expect_near(dq, g.dq, 0.02, 0.1 * largest_of(g.dq_terms), "dq");
}

TEST_F(SdpaOnDevice, AWorkspaceThatIsTooSmallAndACallThatIsRefusedAreErrors) {
  SdpaProblem p = random_packed_sdpa(400);
  Call run(p);
  CudaSdpaForward f{run.a, run.out.raw(), run.out.row_stride(), floats(run.lse), nullptr, 0};
  EXPECT_THROW(cuda_device().run("attention", &CudaBackend::sdpa_forward, f), Error);
  f.a.width = 12;
  const CudaSdpaPlan plan{&f, nullptr, &f.workspace_bytes};
  EXPECT_THROW(cuda_device().run("attention plan", &CudaBackend::sdpa_plan, plan), Error);
}

}  // namespace
}  // namespace farsight::testing
