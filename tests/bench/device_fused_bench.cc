// SPDX-License-Identifier: Apache-2.0
// Kernels that are bound by memory, through the plugin's table: bytes that must be read and written once, per second,
// and as a share of a device copy of the same run. GELU as part of a product is compared with both apart.
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/matmul.h"
#include "kernels/rows.h"
#include "tests/bench/device_timer.h"

namespace farsight::testing {
namespace {

float* floats(const Tensor& t) { return static_cast<float*>(t.raw()); }
int32_t* ints(const Tensor& t) { return static_cast<int32_t*>(t.raw()); }

// Each tensor is larger than the caches on a GPU, so that one set is enough.
class Fused {
 public:
  Fused(CudaDevice& device, const DeviceBenchOptions& options, double copy_rate)
      : device_(device),
        options_(options),
        copy_rate_(copy_rate),
        rows_(options.tiny ? 64 : 16384),
        width_(options.tiny ? 32 : 4096) {}

  void norm() const {
    const Tensor x = values(rows_, width_, 1), residual = values(rows_, width_, 2), weight = values(1, width_, 3);
    const Tensor sum = like(x), y = like(x), rstd = Tensor::empty({rows_, 1});
    CudaNormForward f{};
    f.type = DType::bf16;
    f.rows = rows_;
    f.groups = 1;
    f.width = width_;
    f.x = x.raw();
    f.residual = residual.raw();
    f.x_stride = f.residual_stride = width_;
    f.sum = sum.raw();
    f.weight = weight.raw();
    f.eps = 1e-5F;
    f.y = y.raw();
    f.rstd = floats(rstd);
    timed("residual + rms norm forward", 8 * rows_ * width_, "norm", &CudaBackend::norm_forward, f);

    const Tensor dsum = values(rows_, width_, 4), dx = like(x);
    const Tensor dweight = Tensor::empty({(rows_ + kCudaNormRows - 1) / kCudaNormRows, width_});
    CudaNormBackward b{};
    b.type = DType::bf16;
    b.rows = rows_;
    b.groups = 1;
    b.width = width_;
    b.dy = y.raw();
    b.input = sum.raw();
    b.input_stride = width_;
    b.weight = weight.raw();
    b.rstd = floats(rstd);
    b.dsum = dsum.raw();
    b.dresidual = dx.raw();
    b.dresidual_stride = width_;
    b.dweight = floats(dweight);
    timed("residual + rms norm backward", 8 * rows_ * width_, "norm", &CudaBackend::norm_backward, b);
  }

  void swiglu() const {
    const Tensor gate_up = values(rows_, 2 * width_, 1), dy = values(rows_, width_, 2);
    const Tensor y = like(dy), d_gate_up = like(gate_up);
    const CudaSwigluForward f{DType::bf16, rows_, width_, gate_up.raw(), 2 * width_, y.raw()};
    timed("swiglu forward", 6 * rows_ * width_, "swiglu", &CudaBackend::swiglu_forward, f);
    const CudaSwigluBackward b{DType::bf16, rows_,           width_,     gate_up.raw(), 2 * width_,
                               dy.raw(),    d_gate_up.raw(), 2 * width_, false};
    timed("swiglu backward", 10 * rows_ * width_, "swiglu", &CudaBackend::swiglu_backward, b);
  }

  // The products of an MLP beside its GELU, with GELU as a part of them and on its own.
  void gelu() const {
    const int64_t hidden = 4 * width_;
    const Tensor x = values(rows_, width_, 1), up = values(hidden, width_, 2), bias = values(1, hidden, 3);
    const Tensor down = values(width_, hidden, 4), before = values(rows_, hidden, 5);
    const Tensor product = like(before), y = like(before);
    const CudaGeluForward f{DType::bf16, rows_, hidden, before.raw(), hidden, y.raw()};
    const CudaGeluBackward b{DType::bf16, rows_, hidden, before.raw(), hidden, product.raw(), y.raw(), hidden, false};
    compared(
        "product + bias + gelu forward", hidden,
        [&](int64_t) { matmul_gelu(Transpose::no, Transpose::yes, x, up, bias, before, y); },
        [&](int64_t) {
          matmul(Transpose::no, Transpose::yes, x, up, 0.0F, before, bias);
          device_.run("gelu", &CudaBackend::gelu_forward, f);
        });
    compared(
        "product + gelu backward", hidden,
        [&](int64_t) { matmul_gelu_gradient(Transpose::no, Transpose::no, x, down, before, y); },
        [&](int64_t) {
          matmul(Transpose::no, Transpose::no, x, down, 0.0F, product);
          device_.run("gelu", &CudaBackend::gelu_backward, b);
        });
  }

  void rope() const {
    const int64_t half = options_.tiny ? 8 : 64, heads = width_ / (2 * half);
    const Tensor x = values(rows_, width_, 1);
    const Tensor cosine = random_tensor({rows_, half}, DType::f32, 2, 0.5F);
    const CudaRopeRows a{DType::bf16, rows_, heads, half, x.raw(), width_, floats(cosine), floats(cosine), false};
    timed("rope, in place", 4 * rows_ * width_ + 8 * rows_ * half, "rope", &CudaBackend::rope_rows, a);
  }

  // Three kernels over the logits of a chunk: 2 + 2 + 4 bytes for each.
  void cross_entropy() const {
    const int64_t rows = options_.tiny ? 32 : 4096, vocabulary = options_.tiny ? 96 : 50304;
    const Tensor z = values(rows, vocabulary, 1), largest = Tensor::empty({rows}), sums = f64(3 * rows);
    std::vector<int32_t> labels(static_cast<size_t>(rows));
    std::iota(labels.begin(), labels.end(), 0);
    const Tensor ids = device_copy(labels), totals = f64(2), loss = Tensor::empty({1});
    device_.zero_rows(totals.view({2, 1}));
    const CudaLogits logits{DType::bf16, rows, vocabulary, vocabulary, z.raw(), ints(ids), 0, vocabulary};
    auto* const row_sums = static_cast<double*>(sums.raw());
    const CudaLogitMaxima maxima{logits, floats(largest)};
    const CudaLogitSums exponentials{logits, floats(largest), row_sums};
    const CudaLogitLosses losses{logits, row_sums, 0.0, 1.0, nullptr, static_cast<double*>(totals.raw()), floats(loss)};
    const CudaLogitGradients gradients{logits, floats(largest), row_sums, 0.0, 1.0};
    timed("cross-entropy of a chunk of logits", 8 * rows * vocabulary, [&](int64_t) {
      device_.run("maxima", &CudaBackend::logit_maxima, maxima);
      device_.run("sums", &CudaBackend::logit_sums, exponentials);
      device_.run("losses", &CudaBackend::logit_losses, losses);
      device_.run("gradients", &CudaBackend::logit_gradients, gradients);
    });
  }

  void adamw() const {
    const int64_t count = options_.tiny ? 4096 : int64_t{1} << 27;
    const Tensor w = random_tensor({count}, DType::f32, 1), g = random_tensor({count}, DType::f32, 2);
    const Tensor m = Tensor::zeros({count}), v = Tensor::zeros({count}), rounded = Tensor::empty({count}, DType::bf16);
    const CudaOptimizerRange range{0, count, 0, 0};
    static_assert(sizeof(range) == 4 * sizeof(int64_t));
    const Tensor there = device_copy(std::vector<int64_t>{range.begin, range.count, range.first_chunk, range.group});
    CudaAdamW a{};
    a.slabs = {1,
               (count + kCudaChunk - 1) / kCudaChunk,
               static_cast<const CudaOptimizerRange*>(there.raw()),
               floats(w),
               floats(g),
               floats(m),
               floats(v),
               static_cast<uint16_t*>(rounded.raw()),
               nullptr};
    a.groups[0] = {1.0F, 0.9F, 0.1F, 0.95F, 0.05F, 1.0F, 1e-4F, 4.0F, 1e-8F};
    timed("adamw, 30 bytes a parameter", 30 * count, "adamw", &CudaBackend::adamw, a);
  }

 private:
  static Tensor values(int64_t rows, int64_t columns, uint64_t seed) {
    return random_tensor({rows, columns}, DType::bf16, seed);
  }
  static Tensor like(const Tensor& t) { return Tensor::empty(t.shape(), t.dtype()); }
  static Tensor f64(int64_t count) { return Tensor::empty({count}, DType::f64); }

  void timed(const char* what, int64_t bytes, const std::function<void(int64_t)>& run) const {
    const double rate = static_cast<double>(bytes) / device_seconds(device_, options_, run);
    report(options_, {what, rate * 1e-9, "GB/s", "device copy", copy_rate_ * 1e-9});
  }
  void compared(const char* what, int64_t columns, const std::function<void(int64_t)>& fused,
                const std::function<void(int64_t)>& apart) const {
    const double work = 2e-12 * static_cast<double>(rows_) * static_cast<double>(width_) * static_cast<double>(columns);
    const double whole = device_seconds(device_, options_, fused), parts = device_seconds(device_, options_, apart);
    report(options_, {what, work / whole, "TFLOP/s", "gelu on its own", work / parts});
  }
  template <class Arguments>
  void timed(const char* what, int64_t bytes, const char* name, CudaOperation<Arguments> CudaBackend::*operation,
             const Arguments& arguments) const {
    timed(what, bytes, [&](int64_t) { device_.run(name, operation, arguments); });
  }

  CudaDevice& device_;
  const DeviceBenchOptions& options_;
  double copy_rate_;
  int64_t rows_, width_;
};

}  // namespace

void bench_fused_kernels(CudaDevice& device, const DeviceBenchOptions& options, double copy_rate) {
  const Fused fused(device, options, copy_rate);
  fused.norm();
  fused.swiglu();
  fused.gelu();
  fused.rope();
  fused.cross_entropy();
  fused.adamw();
}

}  // namespace farsight::testing
