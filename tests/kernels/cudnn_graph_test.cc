// SPDX-License-Identifier: Apache-2.0
// Whether cuDNN takes our attention graphs, asked without a device: it is told the properties of one, and the toolkit's
// stub stands for the driver. Everything up to loading the compiled kernel is then the library's own work; that last
// step must fail for want of a driver, and for nothing else. sdpa_refusal must have said the same without the library.
#include <future>
#include <iterator>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "kernels/attention/cudnn_graph_cuda.h"
#include "kernels/attention/cudnn_plan_cuda.h"
#include "kernels/attention/sdpa_cuda.h"

namespace farsight::cuda {
namespace {

// NVIDIA H200; with another compute capability, what that changes in the library's answer.
std::string device_json(int capability) {
  return R"({"deviceName":"NVIDIA H200","cudaDeviceId":0,"deviceVer":)" + std::to_string(10 * capability) +
         R"(,"driverVer":13000,"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],)"
         R"("regsPerBlock":65536,"multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,)"
         R"("maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,)"
         R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)"
         R"("supportCoopLaunch":1,"totalGlobalMem":150754820096,"smClockRateKHz":1980000,"memClockRateKHz":3201000,)"
         R"("l2CacheSize":62914560})";
}

SdpaLibrary library_for(int capability) { return {static_cast<int64_t>(cudnnGetVersion()), capability}; }

// What a case changes in a causal call of 8 heads that share 2 of the keys'.
struct Case {
  const char* name;
  void (*change)(CudaSdpa& a);
};

int32_t starts[2];  // stands for device memory: graphs do not read it

void heads(CudaSdpa& a, int64_t width, int64_t value_width) {
  a.width = width;
  a.value_width = value_width;
}
void tokens(CudaSdpa& a, int64_t queries, int64_t keys) {
  a.q_tokens = queries;
  a.k_tokens = keys;
}
void pack(CudaSdpa& a, int64_t documents, int64_t lse_tokens, bool align_ends = false) {
  a.batch = documents;
  a.packing = {starts, starts, 4096, 4096, lse_tokens, align_ends};
}

CudaSdpa described(const Case& c) {
  CudaSdpa a{};
  a.type = DType::bf16;
  a.batch = 2;
  a.heads = 8;
  a.kv_heads = 2;
  tokens(a, 1024, 1024);
  heads(a, 128, 128);
  a.high = kSdpaNoHigh;
  a.scale = 0.1F;
  c.change(a);
  if (a.q_stride == 0) a.q_stride = a.heads * a.width;
  if (a.k_stride == 0) a.k_stride = a.kv_heads * a.width;
  if (a.v_stride == 0) a.v_stride = a.kv_heads * a.value_width;
  return a;
}

CudaSdpaForward forward_of(const CudaSdpa& a) {
  CudaSdpaForward f{};
  f.a = a;
  f.out_stride = a.heads * a.value_width;
  return f;
}
CudaSdpaBackward backward_of(const CudaSdpa& a, DType dq_type) {
  CudaSdpaBackward b{};
  b.a = a;
  b.out_stride = b.dout_stride = a.heads * a.value_width;
  b.dq_type = dq_type;
  b.dq_stride = a.heads * a.width;
  b.dk_stride = a.kv_heads * a.width;
  b.dv_stride = a.kv_heads * a.value_width;
  return b;
}

// Configured: the library has an engine for the graph. Compiled: the first one also makes its kernel, which takes most
// of a second.
enum class Depth { configured, compiled };

// What the library says to a graph, in words; empty: it takes it.
std::string objection(const SdpaGraph& graph, const CudnnTarget& target, Depth depth) {
  const auto configurations = proposed_configurations(graph.graph, target);
  if (configurations.empty()) return "no configuration";
  if (depth == Depth::configured) return "";
  try {
    execution_plan(configurations.front(), target);
  } catch (const CudnnError& error) {
    return error.status() == CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER ? std::string() : error.what();
  }
  return "a plan without a driver";
}
std::string objection(const CudaSdpa& a, bool backward, Depth depth, int capability = 90, DType dq_type = DType::bf16) {
  const Descriptor device = described_device(device_json(capability));
  try {
    const SdpaGraph graph =
        backward ? sdpa_backward_graph(backward_of(a, dq_type), nullptr) : sdpa_forward_graph(forward_of(a), nullptr);
    return objection(graph, {nullptr, &device}, depth);
  } catch (const CudnnError& error) {
    return error.what();
  }
}

std::string text(const char* name, bool backward) {
  return std::string(name) + (backward ? ", backward" : ", forward");
}

void expect_taken(const Case& c, bool backward, Depth depth, int capability = 90, DType dq_type = DType::bf16) {
  const CudaSdpa a = described(c);
  EXPECT_EQ(objection(a, backward, depth, capability, dq_type), "") << text(c.name, backward);
  const char* why = sdpa_refusal(a, backward, library_for(capability));
  EXPECT_EQ(why, nullptr) << text(c.name, backward) << ": " << why;
}

void expect_refused(const Case& c, bool backward, int capability = 90) {
  const CudaSdpa a = described(c);
  const std::string words = objection(a, backward, Depth::compiled, capability);
  EXPECT_NE(words, "") << text(c.name, backward);
  EXPECT_NE(sdpa_refusal(a, backward, library_for(capability)), nullptr) << text(c.name, backward) << ": " << words;
}

// Refusals of ours to which the library has no objection, or which it cannot see in a graph: results that nobody
// promises, known faults, addresses.
bool is_our_caution(const std::string& why) {
  for (const char* part : {"sees no key", "as many keys as queries", "more than one query", "unequal width",
                           "up to 256", "multiples of 16"}) {
    if (why.find(part) != std::string::npos) return true;
  }
  return false;
}

// What attention.backend = auto relies on: compiled in both directions.
const Case kRelied[] = {
    {"causal", [](CudaSdpa&) {}},
    {"causal, as many key heads", [](CudaSdpa& a) { a.kv_heads = 8; }},
    {"no mask", [](CudaSdpa& a) { a.low = kSdpaNoLow; }},
    {"no mask, fewer queries", [](CudaSdpa& a) { a.low = kSdpaNoLow, tokens(a, 512, 2048); }},
    {"causal, odd length", [](CudaSdpa& a) { tokens(a, 1000, 1000); }},
    {"window", [](CudaSdpa& a) { tokens(a, 4096, 4096), a.high = 1023; }},
    {"bottom right", [](CudaSdpa& a) { tokens(a, 2048, 4096), a.shift = 2048; }},
    {"bottom right with a window", [](CudaSdpa& a) { tokens(a, 2048, 4096), a.shift = 2048, a.high = 1023; }},
    {"heads of 64", [](CudaSdpa& a) { heads(a, 64, 64); }},
    {"heads of 96", [](CudaSdpa& a) { heads(a, 96, 96); }},
    {"heads of 256", [](CudaSdpa& a) { heads(a, 256, 256); }},
    {"deterministic", [](CudaSdpa& a) { a.deterministic = true; }},
    {"deterministic, long", [](CudaSdpa& a) { a.deterministic = true, tokens(a, 32768, 32768); }},
    {"packed", [](CudaSdpa& a) { pack(a, 8, 4096); }},
    {"packed, ends aligned, window", [](CudaSdpa& a) { pack(a, 8, 4096, true), tokens(a, 512, 1024), a.high = 255; }},
};

// More of the same kinds.
const Case kFurther[] = {
    {"causal, one key head", [](CudaSdpa& a) { a.kv_heads = 1; }},
    {"causal, long", [](CudaSdpa& a) { a.batch = 1, a.heads = 64, a.kv_heads = 8, tokens(a, 32768, 32768); }},
    {"no mask, fewer keys", [](CudaSdpa& a) { a.low = kSdpaNoLow, tokens(a, 2048, 512); }},
    {"causal, fewer keys", [](CudaSdpa& a) { tokens(a, 2048, 512); }},
    {"causal, prime length", [](CudaSdpa& a) { tokens(a, 77, 77); }},
    {"window on both sides", [](CudaSdpa& a) { a.low = -100, a.high = 100; }},
    {"window on the left alone", [](CudaSdpa& a) { a.low = kSdpaNoLow, a.high = 100; }},
    {"any shift", [](CudaSdpa& a) { a.shift = 100; }},
    {"heads of 8", [](CudaSdpa& a) { heads(a, 8, 8); }},
    {"heads of 192, values of 128", [](CudaSdpa& a) { heads(a, 192, 128); }},
    {"heads of 64, values of 128", [](CudaSdpa& a) { heads(a, 64, 128); }},
    {"columns of one matrix", [](CudaSdpa& a) { a.q_stride = a.k_stride = a.v_stride = 12 * 128; }},
    {"deterministic, as many key heads", [](CudaSdpa& a) { a.deterministic = true, a.kv_heads = 8; }},
    {"packed, as many key heads", [](CudaSdpa& a) { pack(a, 8, 4096), a.kv_heads = 8; }},
    {"packed, two rows, window", [](CudaSdpa& a) { pack(a, 8, 2048), a.high = 255; }},
    {"packed, no mask", [](CudaSdpa& a) { pack(a, 8, 4096), a.low = kSdpaNoLow; }},
    {"packed, deterministic", [](CudaSdpa& a) { pack(a, 8, 4096), a.deterministic = true; }},
};

// Two at a time.
void expect_compiled(bool backward) {
  const auto every_other = [&](size_t first) {
    for (size_t i = first; i < std::size(kRelied); i += 2) expect_taken(kRelied[i], backward, Depth::compiled);
  };
  auto odd = std::async(std::launch::async, every_other, size_t{1});
  every_other(0);
  odd.get();
}
TEST(CudnnGraph, ForwardIsCompiled) { expect_compiled(/*backward=*/false); }
TEST(CudnnGraph, BackwardIsCompiled) { expect_compiled(/*backward=*/true); }

TEST(CudnnGraph, FurtherMasksAndShapesHaveEngines) {
  for (const Case& c : kFurther) {
    expect_taken(c, /*backward=*/false, Depth::configured);
    expect_taken(c, /*backward=*/true, Depth::configured);
  }
}

TEST(CudnnGraph, QueryGradientsComeInFp32) {
  for (const Case& c : kRelied) expect_taken(c, /*backward=*/true, Depth::configured, 90, DType::f32);
  expect_taken(kRelied[0], /*backward=*/true, Depth::compiled, 90, DType::f32);
}

TEST(CudnnGraph, WhatTheLibraryRefusesIsNamedBefore) {
  const Case both[] = {
      {"heads of 12", [](CudaSdpa& a) { heads(a, 12, 12); }},
      {"values of 36", [](CudaSdpa& a) { heads(a, 64, 36); }},
      {"three key heads", [](CudaSdpa& a) { a.kv_heads = 3; }},
  };
  for (const Case& c : both) {
    expect_refused(c, /*backward=*/false);
    expect_refused(c, /*backward=*/true);
  }
  expect_refused({"heads of 264", [](CudaSdpa& a) { heads(a, 264, 264); }}, /*backward=*/true);
}

TEST(CudnnGraph, BlackwellTakesTheSameButWideBackward) {
  for (const Case& c : kRelied) {
    const bool backward = sdpa_refusal(described(c), /*backward=*/true, library_for(100)) == nullptr;
    expect_taken(c, /*backward=*/false, Depth::configured, 100);
    if (backward) expect_taken(c, /*backward=*/true, Depth::configured, 100);
  }
  expect_refused({"heads of 256", [](CudaSdpa& a) { heads(a, 256, 256); }}, /*backward=*/true, 100);
}

bool has(const SdpaGraph& graph, SdpaTensor id) {
  for (const SdpaOperand& operand : graph.operands) {
    if (operand.id == id) return operand.workspace_bytes > 0;
  }
  return false;
}

// Sums in memory are what makes the order of additions a matter of chance: the deterministic kernel is asked for by
// leaving them out.
TEST(CudnnGraph, DeterministicBackwardAddsNothingUpInMemory) {
  CudaSdpa a = described(kRelied[0]);
  for (const bool deterministic : {false, true}) {
    a.deterministic = deterministic;
    const SdpaGraph graph = sdpa_backward_graph(backward_of(a, DType::bf16), nullptr);
    EXPECT_EQ(has(graph, SdpaTensor::dq_sum), !deterministic);
    EXPECT_TRUE(has(graph, SdpaTensor::row_term));
  }
}

// A graph that is no attention is not taken, so that being taken says something.
TEST(CudnnGraph, TheOrderOfOperationsMatters) {
  GraphBuilder g;
  const GraphDims rows{1, 8, 1024, 128}, scores{1, 8, 1024, 1024}, transposed{1, 8, 128, 1024};
  const GraphTensor q = g.external(1, rows, packed_strides(rows), CUDNN_DATA_BFLOAT16);
  const GraphTensor kt = g.external(2, transposed, {8 * 1024 * 128, 1024 * 128, 1, 128}, CUDNN_DATA_BFLOAT16);
  const GraphTensor v = g.external(3, rows, packed_strides(rows), CUDNN_DATA_BFLOAT16);
  const GraphTensor out = g.external(4, rows, packed_strides(rows), CUDNN_DATA_BFLOAT16);
  const GraphTensor s = g.inner(scores);
  g.matmul(q, kt, s, {});
  const GraphTensor sum = g.inner({1, 8, 1024, 1});
  g.reduce(CUDNN_REDUCE_TENSOR_MIN, s, sum);
  g.matmul(g.pointwise(CUDNN_POINTWISE_ADD, s, sum, CUDNN_DATA_BFLOAT16), v, out, {});
  const Descriptor device = described_device(device_json(90));
  bool taken = false;
  try {
    const Descriptor graph = g.finish(nullptr);
    taken = !proposed_configurations(graph, {nullptr, &device}).empty();
  } catch (const CudnnError&) {
  }
  EXPECT_FALSE(taken);
}

int64_t pick(std::mt19937_64& g, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(g);
}

CudaSdpa random_call(uint64_t seed) {
  static std::mt19937_64 g;
  g.seed(seed);
  return described({"random", [](CudaSdpa& a) {
                      a.batch = pick(g, 1, 3);
                      a.kv_heads = pick(g, 1, 4);
                      a.heads = pick(g, 0, 5) == 0 ? pick(g, 1, 12) : a.kv_heads * pick(g, 1, 4);
                      const int64_t step = pick(g, 0, 5) == 0 ? 4 : 8;
                      a.width = step * pick(g, 1, 288 / step);
                      a.value_width = pick(g, 0, 1) == 0 ? a.width : step * pick(g, 1, 288 / step);
                      tokens(a, pick(g, 1, 3000), pick(g, 1, 3000));
                      if (pick(g, 0, 1) == 0) a.k_tokens = a.q_tokens;
                      if (pick(g, 0, 2) == 0) a.shift = a.k_tokens - a.q_tokens;
                      if (pick(g, 0, 4) == 0) a.shift += pick(g, -20, 200);
                      a.low = pick(g, 0, 2) == 0 ? kSdpaNoLow : static_cast<int32_t>(-pick(g, 0, 1) * pick(g, 0, 99));
                      if (pick(g, 0, 2) == 0) a.high = static_cast<int32_t>(pick(g, 0, 2000));
                      a.deterministic = pick(g, 0, 3) == 0;
                      if (pick(g, 0, 3) == 0) pack(a, pick(g, 1, 20), 4096, pick(g, 0, 1) == 0);
                    }});
}

TEST(CudnnGraph, RefusalsAgreeWithTheLibraryOnRandomCalls) {
  int taken = 0, refused = 0;
  for (uint64_t seed = 1; seed <= 160; ++seed) {
    const CudaSdpa a = random_call(seed);
    for (const bool backward : {false, true}) {
      const char* why = sdpa_refusal(a, backward, library_for(90));
      if (why != nullptr && is_our_caution(why)) continue;
      const auto depth = why != nullptr || seed % 40 == 0 ? Depth::compiled : Depth::configured;
      const std::string words = objection(a, backward, depth);
      const std::string where = text("seed ", backward) + " " + std::to_string(seed);
      EXPECT_EQ(why == nullptr, words.empty())
          << where << ": we say " << (why == nullptr ? "nothing" : why) << ", the library " << words;
      ++(why == nullptr ? taken : refused);
    }
  }
  EXPECT_GE(taken, 40);
  EXPECT_GE(refused, 20);
}

}  // namespace
}  // namespace farsight::cuda
