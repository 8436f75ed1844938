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
#include "tests/sanitized.h"

namespace farsight::testing {
namespace {

constexpr SdpaLibrary kHopper{91900, 90};
constexpr int64_t kMargin = 8;  // NaN columns on both sides of every matrix

using Generator = std::mt19937_64;
int64_t pick(Generator& g, int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(g); }

// Documents of a packed call; every row of `lse_tokens` queries is covered.
struct Documents {
  std::vector<int32_t> q_starts, k_starts;
  int64_t lse_tokens = 0;
  bool align_ends = false;
};

struct Problem {
  CudaSdpa a{};
  Documents documents;  // empty: not packed
  DenseAttention dense;
  Vec dout;
  DType dq_type = DType::f32;

  bool packed() const { return !documents.q_starts.empty(); }
  int64_t q_rows() const { return packed() ? documents.q_starts.back() : a.batch * a.q_tokens; }
  int64_t k_rows() const { return packed() ? documents.k_starts.back() : a.batch * a.k_tokens; }
  std::string text() const {
    return "B=" + std::to_string(a.batch) + " Tq=" + std::to_string(a.q_tokens) + " Tk=" + std::to_string(a.k_tokens) +
           " H=" + std::to_string(a.heads) + " Hkv=" + std::to_string(a.kv_heads) + " D=" + std::to_string(a.width) +
           " Dv=" + std::to_string(a.value_width) + " low=" + std::to_string(a.low) +
           " high=" + std::to_string(a.high) + " shift=" + std::to_string(a.shift) +
           (a.deterministic ? " deterministic" : "") + (packed() ? " packed" : "");
  }
};

// Positions that mean the same to the oracle as shift and index do to the library.
constexpr int32_t kBase = 100000;
void set_positions(Problem& p) {
  DenseAttention& d = p.dense;
  if (!p.packed()) {
    d.batch = p.a.batch;
    d.queries = p.a.q_tokens;
    d.keys = p.a.k_tokens;
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t i = 0; i < d.queries; ++i) d.query_positions.push_back(static_cast<int32_t>(kBase + i + p.a.shift));
      for (int64_t j = 0; j < d.keys; ++j) d.key_positions.push_back(static_cast<int32_t>(kBase + j));
    }
    return;
  }
  const Documents& docs = p.documents;
  d.batch = p.q_rows() / docs.lse_tokens;
  d.queries = docs.lse_tokens;
  d.keys = p.k_rows() / d.batch;
  d.spec.documents = true;
  for (size_t n = 0; n + 1 < docs.q_starts.size(); ++n) {
    const int32_t queries = docs.q_starts[n + 1] - docs.q_starts[n], keys = docs.k_starts[n + 1] - docs.k_starts[n];
    const auto shift = static_cast<int32_t>(p.a.shift + (docs.align_ends ? keys - queries : 0));
    for (int32_t i = 0; i < queries; ++i) d.query_positions.push_back(kBase + i + shift);
    for (int32_t j = 0; j < keys; ++j) d.key_positions.push_back(kBase + j);
    d.query_documents.insert(d.query_documents.end(), static_cast<size_t>(queries), static_cast<int32_t>(n));
    d.key_documents.insert(d.key_documents.end(), static_cast<size_t>(keys), static_cast<int32_t>(n));
  }
}

void fill(Problem& p, uint64_t seed) {
  DenseAttention& d = p.dense;
  set_positions(p);
  d.heads = p.a.heads;
  d.kv_heads = p.a.kv_heads;
  d.width = p.a.width;
  d.value_width = p.a.value_width;
  d.spec.scale = p.a.scale;
  d.spec.causal = false;
  d.spec.window_left = p.a.high;
  d.spec.window_right = p.a.low <= -kNoWindow ? kNoWindow : -p.a.low;
  d.q = random_vec(seed, p.q_rows() * d.heads * d.width);
  d.k = random_vec(seed + 1, p.k_rows() * d.kv_heads * d.width);
  d.v = random_vec(seed + 2, p.k_rows() * d.kv_heads * d.value_width);
  p.dout = random_vec(seed + 3, p.q_rows() * d.heads * d.value_width);
}

void random_mask(Generator& g, CudaSdpa& a) {
  a.low = kSdpaNoLow;
  a.high = kSdpaNoHigh;
  const int64_t kind = pick(g, 0, 5);
  if (kind == 0) return;
  a.low = 0;  // causal
  if (kind == 2 || kind == 4) a.high = static_cast<int32_t>(pick(g, 0, a.k_tokens));
  if (kind == 3 || kind == 4) a.shift = std::max<int64_t>(0, a.k_tokens - a.q_tokens);
  if (kind == 5) {
    a.shift = pick(g, 0, 9);
    a.low = static_cast<int32_t>(-pick(g, 0, 9));
    a.high = static_cast<int32_t>(a.shift + pick(g, 0, 20));
  }
}

Problem random_problem(uint64_t seed, int64_t most_tokens) {
  Generator g(seed);
  Problem p;
  CudaSdpa& a = p.a;
  a.type = DType::bf16;
  a.batch = pick(g, 1, 2);
  a.kv_heads = pick(g, 1, 2);
  a.heads = a.kv_heads * pick(g, 1, 3);
  a.width = 8 * pick(g, 1, 12);
  a.value_width = pick(g, 0, 1) == 0 ? a.width : 8 * pick(g, 1, 12);
  a.q_tokens = pick(g, 2, most_tokens);
  a.k_tokens = pick(g, 0, 2) == 0 ? a.q_tokens : pick(g, 2, most_tokens);
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.width)));
  a.deterministic = pick(g, 0, 3) == 0;
  p.dq_type = pick(g, 0, 1) == 0 ? DType::bf16 : DType::f32;
  random_mask(g, a);
  fill(p, seed);
  return p;
}

// Rows of documents end to end, some places for documents left empty.
Problem random_packed_problem(uint64_t seed, int64_t most_rows = 2) {
  Generator g(seed);
  Problem p = random_problem(seed, 8);
  p.dense = {};
  CudaSdpa& a = p.a;
  const int64_t rows = pick(g, 1, most_rows), tokens = pick(g, 20, 40);
  p.documents.lse_tokens = tokens;
  p.documents.q_starts = {0};
  a.q_tokens = 1;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t left = tokens; left > 0;) {
      const int64_t length = std::min(left, pick(g, 1, 17));
      p.documents.q_starts.push_back(static_cast<int32_t>(p.documents.q_starts.back() + length));
      a.q_tokens = std::max(a.q_tokens, length);
      left -= length;
    }
  }
  for (int i = 0; i < 3; ++i) p.documents.q_starts.push_back(p.documents.q_starts.back());
  p.documents.k_starts = p.documents.q_starts;
  a.k_tokens = a.q_tokens;
  a.width = 16 * pick(g, 1, 4);
  a.value_width = 16 * pick(g, 1, 4);
  a.batch = static_cast<int64_t>(p.documents.q_starts.size()) - 1;
  p.documents.align_ends = pick(g, 0, 1) == 0;
  if (sdpa_refusal(a, /*backward=*/false, kHopper) != nullptr || a.shift != 0) {
    a.low = 0;
    a.high = kSdpaNoHigh;
    a.shift = 0;
  }
  fill(p, seed);
  return p;
}

// Documents have twice as many keys as queries and three more; the last query is beside the last key. For one row: the
// oracle's rows have equal numbers of keys.
void lengthen_keys(Problem& p, uint64_t seed) {
  int32_t added = 0;
  for (size_t n = 1; n < p.documents.k_starts.size(); ++n) {
    const int32_t queries = p.documents.q_starts[n] - p.documents.q_starts[n - 1];
    added += queries == 0 ? 0 : queries + 3;
    p.documents.k_starts[n] += added;
  }
  p.a.k_tokens = 2 * p.a.q_tokens + 3;
  p.documents.align_ends = true;
  p.dense = {};
  fill(p, seed);
}

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
  explicit Call(const Problem& problem) : p(problem), a(problem.a) {
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

  const Problem& p;
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
void expect_oracle(const Problem& p) {
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
    const Problem p = random_problem(seed, 48);
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
    Problem p = random_problem(seed, 200);
    Call shape(p);
    if (sdpa_refusal(shape.a, /*backward=*/true, library_) == nullptr) expect_oracle(p);
  }
}

TEST_F(SdpaOnDevice, PackedDocumentsEqualTheOracle) {
  for (uint64_t seed = 400; seed < (kSanitized ? 404 : 424); ++seed) expect_oracle(random_packed_problem(seed));
}

TEST_F(SdpaOnDevice, PackedDocumentsWithMoreKeysThanQueriesAreAlignedAtTheirEnds) {
  for (uint64_t seed = 500; seed < (kSanitized ? 502 : 508); ++seed) {
    Problem p = random_packed_problem(seed, /*most_rows=*/1);
    p.a.low = 0;
    p.a.high = seed % 2 == 0 ? kSdpaNoHigh : 5;
    p.a.shift = 0;
    lengthen_keys(p, seed);
    expect_oracle(p);
  }
}

// A ring of two: each key block with its own forward, the rest from the merged result.
TEST_F(SdpaOnDevice, KeyBlocksMergeByTheirLseAndTheirGradientsAddUp) {
  Problem whole = random_problem(7, 2);
  whole.a.batch = 1;
  whole.a.q_tokens = whole.a.k_tokens = 32;
  whole.a.low = kSdpaNoLow;
  whole.a.high = kSdpaNoHigh;
  whole.a.shift = 0;
  whole.a.deterministic = false;
  whole.dq_type = DType::f32;
  whole.dense = {};
  fill(whole, 7);
  const DenseForward forward = dense_forward(whole.dense);
  const Vec zeros(forward.lse.size(), 0.0);
  const DenseGradients g = dense_backward(whole.dense, forward, whole.dout, zeros, zeros);

  Vec dq(whole.dense.q.size(), 0.0), sum(forward.lse.size(), 0.0);
  for (const int64_t first : {0, 16}) {
    Problem part = whole;
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
  Problem p = random_packed_problem(400);
  Call run(p);
  CudaSdpaForward f{run.a, run.out.raw(), run.out.row_stride(), floats(run.lse), nullptr, 0};
  EXPECT_THROW(cuda_device().run("attention", &CudaBackend::sdpa_forward, f), Error);
  f.a.width = 12;
  const CudaSdpaPlan plan{&f, nullptr, &f.workspace_bytes};
  EXPECT_THROW(cuda_device().run("attention plan", &CudaBackend::sdpa_plan, plan), Error);
}

}  // namespace
}  // namespace farsight::testing
