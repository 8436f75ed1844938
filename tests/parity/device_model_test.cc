// SPDX-License-Identifier: Apache-2.0
// The whole model on a CUDA device against the CPU: loss and every gradient of one pass, in fp32 and in bf16, for both
// model families and the policies that a run can choose. The device is the emulated one where there is no GPU.
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include <gtest/gtest.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/library.h"
#include "kernels/rows.h"
#include "tests/sanitized.h"
#include "trainer/model.h"

namespace farsight {
namespace {

constexpr int64_t kBatch = 2, kTokens = 40;

ModelSpec llama() {
  ModelSpec spec;
  spec.vocab = 67;
  spec.layers = 2;
  spec.width = 32;
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.head_width = 8;
  spec.mlp_width = 48;
  spec.dropout = 0.1;
  spec.label_smoothing = 0.1;
  spec.attention.documents = true;
  return spec;
}

ModelSpec gpt2() {
  ModelSpec spec = llama();
  spec.kv_heads = 4;
  spec.max_positions = kTokens;
  spec.mlp = MlpKind::gelu;
  spec.norm = NormKind::layer;
  spec.position = PositionKind::learned;
  spec.bias = true;
  spec.attention.dropout = 0.1;
  return spec;
}

ModelSpec additive() {
  ModelSpec spec = llama();
  spec.attention.score = AttentionScore::additive;
  spec.attention.entropy = true;
  spec.entropy_weight = 0.05;
  spec.tie_embeddings = false;
  spec.qk_norm = true;
  spec.recompute_layers = true;
  spec.keep_attention = true;
  return spec;
}

ModelSpec alibi() {
  ModelSpec spec = llama();
  spec.position = PositionKind::none;
  spec.attention.alibi_slopes = {0.5F, 0.25F, 0.125F, 0.0625F};
  spec.attention.window_left = 17;
  spec.recompute_layers = true;
  spec.mlp_chunk = 13;
  return spec;
}

// A few rows of the MLP at a time, and all of it again in backward.
ModelSpec tiled_gpt2() {
  ModelSpec spec = gpt2();
  spec.recompute_layers = true;
  spec.mlp_chunk = 13;
  return spec;
}

struct Pass {
  double loss = 0.0, entropy = 0.0;
  std::map<std::string, std::vector<float>> gradients;
};

std::vector<float> numbers(const Tensor& tensor) {
  const Tensor host = tensor.to(Device::cpu);
  return {host.data<float>(), host.data<float>() + host.numel()};
}

// Two micro-batches, so that gradients are added to.
Pass run(const ModelSpec& spec, DType type) {
  const auto world = make_self_communicator();
  Mesh mesh(*world, ParallelOptions{});
  LanguageModel model(spec);
  model.parameters().allocate({.value_type = type});
  model.parameters().initialize(5);
  model.parameters().begin_gradients();
  SequenceBatch sequence;
  sequence.batch = kBatch;
  sequence.layout = SequenceLayout(SequenceOrder::contiguous, kTokens, 1);
  sequence.documents = Tensor::empty({kBatch, kTokens}, DType::i32, MemoryTag::data, Device::cpu);
  for (int64_t i = 0; i < kBatch * kTokens; ++i) sequence.documents.data<int32_t>()[i] = static_cast<int32_t>(i / 15);
  std::mt19937 random(3);
  Pass pass;
  for (uint64_t micro = 0; micro < 2; ++micro) {
    sequence.samples = {10 * micro + 4, 10 * micro + 9};
    const SequenceRows rows = sequence.rows(0);
    std::vector<int32_t> inputs(kBatch * kTokens), labels(inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = static_cast<int32_t>(random() % 67);
      labels[i] = i % 11 == 3 ? -1 : static_cast<int32_t>(random() % 67);
    }
    Tape tape;
    ModelPass how;
    how.seed = 5;
    how.step = 7;
    how.loss_scale = 1.0 / 140.0;
    how.entropy_scale = 1.0 / 640.0;
    const Tensor loss = Tensor::zeros({1}, DType::f64), entropy = Tensor::zeros({1}, DType::f64);
    tape.backward(model.loss(tape, mesh, {&sequence, &rows, inputs, labels}, how, {loss, entropy}));
    pass.loss += *loss.to(Device::cpu).data<double>();
    pass.entropy += *entropy.to(Device::cpu).data<double>();
  }
  for (const auto& p : model.parameters().parameters()) pass.gradients[p.name] = numbers(p.grad);
  return pass;
}

double largest(const std::vector<float>& values) {
  double result = 0.0;
  for (const float x : values) result = std::max(result, std::abs(static_cast<double>(x)));
  return result;
}

// Least magnitude that errors are measured against: without rotation the bias of the keys moves all scores of a row
// alike, so that its gradient is the rounding of a sum that is zero.
double floor_of(const Pass& pass) {
  double result = 0.0;
  for (const auto& [name, values] : pass.gradients) result = std::max(result, largest(values));
  return 1e-3 * result;
}

// Largest difference of one tensor relative to its largest element.
double difference(const std::vector<float>& got, const std::vector<float>& expected, double at_least) {
  double worst = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    worst = error <= worst ? worst : error;  // NaN sticks
  }
  return worst / std::max(largest(expected), at_least);
}

class DeviceModel : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (cuda_library().table == nullptr) GTEST_SKIP() << cuda_library().reason;
  }
  static ModelSpec spec() {
    const ModelSpec specs[] = {llama(), gpt2(), additive(), alibi(), tiled_gpt2()};
    return specs[GetParam()];
  }
  static Pass on_device(DType type) {
    CudaDevice device(0);
    const CudaScope scope(device);
    return run(spec(), type);
  }
};
// The emulator is slow under a sanitizer: there it is enough that all code runs once.
INSTANTIATE_TEST_SUITE_P(Families, DeviceModel, kSanitized ? ::testing::Range(2, 5) : ::testing::Range(0, 5));

TEST_P(DeviceModel, Fp32EqualsTheCpu) {
  const Pass cpu = run(spec(), DType::f32), cuda = on_device(DType::f32);
  EXPECT_NEAR(cuda.loss, cpu.loss, 1e-6 * cpu.loss);
  EXPECT_NEAR(cuda.entropy, cpu.entropy, 1e-6 * std::abs(cpu.entropy));
  for (const auto& [name, expected] : cpu.gradients) {
    EXPECT_LE(difference(cuda.gradients.at(name), expected, floor_of(cpu)), 1e-5) << name;
  }
}

TEST_P(DeviceModel, Fp32RepeatsBitForBit) {
  if (kSanitized) return;  // repeats, with no new code in it
  const Pass first = on_device(DType::f32), second = on_device(DType::f32);
  EXPECT_EQ(first.loss, second.loss);
  EXPECT_EQ(first.gradients, second.gradients);
}

// bf16 has 8 bits: single gradients differ, the loss does not.
TEST_P(DeviceModel, Bf16IsCloseToTheCpu) {
  const Pass cpu = run(spec(), DType::f32), cuda = on_device(DType::bf16);
  EXPECT_NEAR(cuda.loss, cpu.loss, 3e-3 * cpu.loss);
  double worst = 0.0;
  for (const auto& [name, expected] : cpu.gradients) {
    const double error = difference(cuda.gradients.at(name), expected, floor_of(cpu));
    worst = std::max(worst, error);
    EXPECT_LE(error, 0.08) << name;
  }
  RecordProperty("worst", std::to_string(worst));
}

}  // namespace
}  // namespace farsight
