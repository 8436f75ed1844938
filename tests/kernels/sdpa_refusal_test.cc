// SPDX-License-Identifier: Apache-2.0
// Which calls are given to the device's attention library, decided without it. cudnn_graph_test asks the library
// itself.
#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "kernels/attention/sdpa_cuda.h"
#include "kernels/attention/spec.h"

namespace farsight {
namespace {

constexpr SdpaLibrary kHopper{91900, 90}, kBlackwell{91900, 100};

CudaSdpa causal() {
  CudaSdpa a{};
  a.type = DType::bf16;
  a.batch = 2;
  a.q_tokens = a.k_tokens = 1024;
  a.heads = 8;
  a.kv_heads = 2;
  a.width = a.value_width = 128;
  a.q_stride = 8 * 128;
  a.k_stride = a.v_stride = 2 * 128;
  a.low = 0;
  a.high = kSdpaNoHigh;
  a.scale = 0.1F;
  return a;
}

struct Refusal {
  const char* part;  // of the text; null: taken
  bool forward, backward;
  void (*change)(CudaSdpa& a);
};

TEST(SdpaRefusal, NamesEveryLimit) {
  static int32_t starts[2];
  const Refusal refusals[] = {
      {nullptr, true, true, [](CudaSdpa&) {}},
      {nullptr, true, true, [](CudaSdpa& a) { a.low = kSdpaNoLow; }},
      {nullptr, true, true, [](CudaSdpa& a) { a.low = -kNoWindow; }},
      {nullptr, true, true, [](CudaSdpa& a) { a.high = 100; }},
      {nullptr, true, true, [](CudaSdpa& a) { a.q_tokens = 512, a.shift = 512; }},
      {"bf16", true, true, [](CudaSdpa& a) { a.type = DType::f32; }},
      {"positive scale", true, true, [](CudaSdpa& a) { a.scale = -1.0F; }},
      {"positive scale", true, true, [](CudaSdpa& a) { a.scale = std::nanf(""); }},
      {"sizes", true, true, [](CudaSdpa& a) { a.k_tokens = 0; }},
      {"divide", true, true, [](CudaSdpa& a) { a.kv_heads = 3; }},
      {"multiples of 8", true, true, [](CudaSdpa& a) { a.width = 36; }},
      {"up to 256", true, true, [](CudaSdpa& a) { a.value_width = 264; }},
      {"more than one query", false, true, [](CudaSdpa& a) { a.q_tokens = a.k_tokens = 1; }},
      {"unequal width", false, true, [](CudaSdpa& a) { a.width = 256, a.q_stride = a.k_stride = 2048; }},
      {nullptr, true, true, [](CudaSdpa& a) { a.width = 192, a.q_stride = a.k_stride = 1536; }},
      {"16 bytes", true, true, [](CudaSdpa& a) { a.v_stride += 4; }},
      {"overlap", true, true, [](CudaSdpa& a) { a.q_stride = 512; }},
      {"addresses", true, true, [](CudaSdpa& a) { a.k = reinterpret_cast<const void*>(uintptr_t{8}); }},
      {"no key", true, true, [](CudaSdpa& a) { a.low = 1; }},
      {"no key", true, true, [](CudaSdpa& a) { a.shift = -1; }},
      {"no key", true, true, [](CudaSdpa& a) { a.high = -1; }},
      {"no key", true, true, [](CudaSdpa& a) { a.k_tokens = 512, a.shift = -512; }},
      {"no key", true, true, [](CudaSdpa& a) { a.k_tokens = 512, a.high = 511; }},
      {"as many keys", true, true, [](CudaSdpa& a) { a.k_tokens = 512, a.high = 600; }},
      {nullptr, true, true, [](CudaSdpa& a) { a.k_tokens = 512; }},
      {"too large", true, true, [](CudaSdpa& a) { a.shift = int64_t{1} << 40; }},
      {nullptr, true, true, [](CudaSdpa& a) { a.packing = {starts, starts, 2048, 2048, 1024, false}; }},
      {"lse_tokens", true, true, [](CudaSdpa& a) { a.packing = {starts, starts, 2048, 2048, 1000, false}; }},
      {"starts and rows", true, true, [](CudaSdpa& a) { a.packing = {starts, nullptr, 2048, 2048, 1024, false}; }},
      {"multiples of 16", false, true,
       [](CudaSdpa& a) { a.packing = {starts, starts, 2048, 2048, 1024, false}, a.width = a.value_width = 72; }},
  };
  for (const Refusal& r : refusals) {
    for (const bool backward : {false, true}) {
      CudaSdpa a = causal();
      r.change(a);
      const char* why = sdpa_refusal(a, backward, kHopper);
      const bool refused = r.part != nullptr && (backward ? r.backward : r.forward);
      ASSERT_EQ(why != nullptr, refused) << (why == nullptr ? r.part : why) << " backward=" << backward;
      if (why != nullptr) {
        EXPECT_NE(std::string(why).find(r.part), std::string::npos) << why;
      }
    }
  }
}

TEST(SdpaRefusal, LooksAtEveryMatrix) {
  CudaSdpaForward f{};
  f.a = causal();
  f.out_stride = 1024;
  EXPECT_EQ(sdpa_refusal(f, kHopper), nullptr);
  f.out_stride = 1028;
  EXPECT_NE(sdpa_refusal(f, kHopper), nullptr);
  CudaSdpaBackward good{};
  good.a = causal();
  good.dq_type = DType::f32;
  good.out_stride = good.dout_stride = good.dq_stride = 1024;
  good.dk_stride = good.dv_stride = 256;
  EXPECT_EQ(sdpa_refusal(good, kHopper), nullptr);
  for (int64_t CudaSdpaBackward::*stride :
       {&CudaSdpaBackward::out_stride, &CudaSdpaBackward::dout_stride, &CudaSdpaBackward::dq_stride,
        &CudaSdpaBackward::dk_stride, &CudaSdpaBackward::dv_stride}) {
    for (const int64_t change : {-8, 4}) {
      CudaSdpaBackward bad = good;
      bad.*stride += change;
      EXPECT_NE(sdpa_refusal(bad, kHopper), nullptr);
    }
  }
  for (void* CudaSdpaBackward::*address : {&CudaSdpaBackward::dq, &CudaSdpaBackward::dk, &CudaSdpaBackward::dv}) {
    CudaSdpaBackward bad = good;
    bad.*address = reinterpret_cast<void*>(uintptr_t{8});
    EXPECT_NE(sdpa_refusal(bad, kHopper), nullptr);
  }
  good.dq_type = DType::i32;
  EXPECT_NE(sdpa_refusal(good, kHopper), nullptr);
}

TEST(SdpaRefusal, DependsOnTheLibraryAndTheDevice) {
  const CudaSdpa a = causal();
  EXPECT_EQ(sdpa_refusal(a, /*backward=*/true, kBlackwell), nullptr);
  EXPECT_NE(sdpa_refusal(a, /*backward=*/true, {0, 90}), nullptr);
  EXPECT_NE(sdpa_refusal(a, /*backward=*/false, {91500, 90}), nullptr);
  EXPECT_EQ(sdpa_refusal(a, /*backward=*/false, {91501, 90}), nullptr);
  EXPECT_NE(sdpa_refusal(a, /*backward=*/false, {91900, 80}), nullptr);
  CudaSdpa repeatable = a;
  repeatable.deterministic = true;
  EXPECT_EQ(sdpa_refusal(repeatable, /*backward=*/true, kHopper), nullptr);
  EXPECT_NE(sdpa_refusal(repeatable, /*backward=*/true, kBlackwell), nullptr);
  EXPECT_EQ(sdpa_refusal(repeatable, /*backward=*/false, kBlackwell), nullptr);
  CudaSdpa wide = a;
  wide.width = wide.value_width = 256;
  wide.q_stride = wide.k_stride = wide.v_stride = 2048;
  EXPECT_EQ(sdpa_refusal(wide, /*backward=*/true, kHopper), nullptr);
  EXPECT_NE(sdpa_refusal(wide, /*backward=*/true, kBlackwell), nullptr);
}

// A bound that hides nothing for these sizes is no bound, so that fewer plans are built and more shapes taken.
TEST(SdpaBand, LeavesOutBoundsThatHideNothing) {
  CudaSdpa a = causal();
  EXPECT_TRUE(sdpa_band(a).right);
  EXPECT_FALSE(sdpa_band(a).left);
  a.shift = 1023;  // all keys of an earlier chunk
  EXPECT_FALSE(sdpa_band(a).right);
  a.shift = 1022;
  EXPECT_TRUE(sdpa_band(a).right);
  EXPECT_EQ(sdpa_band(a).right_shift, 1022);
  a.shift = 0;
  a.high = 1023;
  EXPECT_FALSE(sdpa_band(a).left);
  a.high = 1022;
  EXPECT_TRUE(sdpa_band(a).left);
  EXPECT_EQ(sdpa_band(a).left_shift, 1023);
}

}  // namespace
}  // namespace farsight
