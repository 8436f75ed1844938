// SPDX-License-Identifier: Apache-2.0
#include "kernels/parameter.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "kernels/random.h"

namespace farsight {
namespace {

TEST(ParameterStore, LaysParametersOutAlignedOrAdjoining) {
  ParameterStore store;
  Parameter& a = store.add("a", {3, 5}, {});
  Parameter& b = store.add("b", {7}, {}, /*adjoin=*/true);
  Parameter& c = store.add("c", {2}, {});
  store.allocate();
  EXPECT_EQ(a.offset, 0);
  EXPECT_EQ(b.offset, 15);
  EXPECT_EQ(c.offset, 32);
  EXPECT_EQ(store.slab_elements(), 48);
  EXPECT_EQ(store.parameter_count(), 24);
  EXPECT_EQ(b.value.data<float>(), a.value.data<float>() + 15);
  EXPECT_EQ(c.grad.data<float>(), store.gradients().data<float>() + 32);
  EXPECT_TRUE(a.decay);
  EXPECT_FALSE(b.decay);
  EXPECT_EQ(store.find("b"), &b);
  EXPECT_EQ(store.find("z"), nullptr);
}

TEST(ParameterStore, RefusesDuplicatesAndLateAdditions) {
  ParameterStore store;
  store.add("a", {1}, {});
  EXPECT_THROW(store.add("a", {1}, {}), Error);
  store.allocate();
  EXPECT_THROW(store.add("b", {1}, {}), Error);
}

TEST(ParameterStore, InitialValuesDependOnNameAndIndexOnly) {
  ParameterStore first, second;
  first.add("w", {40, 3}, {Init::Kind::normal, 0.02});
  Parameter& u = first.add("u", {50}, {Init::Kind::uniform, 0.5});
  Parameter& one = first.add("one", {4}, {Init::Kind::constant, 1.0});
  first.allocate();
  first.initialize(123);
  second.add("other", {9}, {Init::Kind::normal, 1.0});
  second.add("w", {40, 3}, {Init::Kind::normal, 0.02});
  second.allocate();
  second.initialize(123);
  const auto a = first.find("w")->value.span<float>(), b = second.find("w")->value.span<float>();
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
  EXPECT_EQ(a[7], static_cast<float>(0.02 * normal_variate(init_key(123, "w"), 7)));
  for (const float x : u.value.span<float>()) EXPECT_LE(std::abs(x), 0.5F);
  EXPECT_EQ(one.value.span<float>()[3], 1.0F);
  EXPECT_EQ(first.values().span<float>()[first.find("u")->offset - 1], 0.0F) << "alignment gap";
  second.initialize(124);
  EXPECT_NE(a[7], b[7]);
}

// Every cut of a tensor into hyper-rectangles holds the bits of the whole one.
TEST(ParameterStore, SlicesStartLikeTheWholeTensor) {
  const Shape global{5, 7, 3};
  ParameterStore whole;
  whole.add("w", global, {Init::Kind::normal, 1.0});
  whole.allocate();
  whole.initialize(9);
  const float* all = whole.find("w")->value.data<float>();
  for (const ParameterSlice& slice :
       {ParameterSlice{global, {1, 0, 0}, {3, 7, 3}}, ParameterSlice{global, {0, 2, 0}, {5, 4, 3}},
        ParameterSlice{global, {2, 3, 1}, {3, 4, 2}}, ParameterSlice{global, {5, 0, 0}, {0, 7, 3}}}) {
    ParameterStore part;
    part.add("w", slice, {Init::Kind::normal, 1.0});
    part.allocate();
    part.initialize(9);
    EXPECT_EQ(part.global_count(), 105);
    EXPECT_EQ(part.parameter_count(), slice.shape[0] * slice.shape[1] * slice.shape[2]);
    const float* own = part.find("w")->value.data<float>();
    for (int64_t i = 0; i < slice.shape[0]; ++i) {
      for (int64_t j = 0; j < slice.shape[1]; ++j) {
        for (int64_t k = 0; k < slice.shape[2]; ++k) {
          EXPECT_EQ(own[(i * slice.shape[1] + j) * slice.shape[2] + k],
                    all[((i + slice.first[0]) * 7 + j + slice.first[1]) * 3 + k + slice.first[2]]);
        }
      }
    }
  }
  ParameterStore refused;
  EXPECT_THROW(refused.add("w", ParameterSlice{global, {3, 0, 0}, {3, 7, 3}}, {}), Error);
}

TEST(ParameterStore, UnitsAreBoundAndUnboundByWhoeverShardsThem) {
  ParameterStore store;
  store.add("root", {3}, {});
  store.begin_unit();
  Parameter& a = store.add("a", {4, 5}, {});
  Parameter& b = store.add("b", {2}, {}, /*adjoin=*/true);
  store.begin_unit();
  store.add("c", {1}, {});
  store.allocate({.values = false, .gradients = false});
  ASSERT_EQ(store.units().size(), 3U);
  EXPECT_EQ(store.units()[1].begin, 16);
  EXPECT_EQ(store.units()[1].end, 48);
  EXPECT_FALSE(store.values().defined() || a.value.defined() || a.grad.defined());
  const Tensor slab = Tensor::zeros({32});
  store.bind_values(1, slab);
  EXPECT_EQ(b.value.data<float>(), slab.data<float>() + 20);
  EXPECT_FALSE(store.find("root")->value.defined());
  a.grad_written = true;
  store.bind_gradients(1, slab);
  EXPECT_FALSE(a.grad_written);
  store.bind_values(1, Tensor());
  EXPECT_FALSE(a.value.defined());
  ParameterStore resident;
  resident.add("a", {1}, {});
  resident.allocate();
  EXPECT_THROW(resident.bind_values(0, slab), Error);
  EXPECT_THROW(resident.bind_gradients(0, slab), Error);
}

TEST(ParameterStore, GradientsStartAfreshEachStepAndUnwrittenOnesAreZeroed) {
  ParameterStore store;
  Parameter& a = store.add("a", {2}, {});
  Parameter& b = store.add("b", {2}, {});
  store.allocate();
  a.grad.span<float>()[0] = b.grad.span<float>()[0] = 5.0F;
  store.begin_gradients();
  EXPECT_EQ(a.begin_accumulate(), 0.0F);
  EXPECT_EQ(a.begin_accumulate(), 1.0F);
  for (Parameter& p : store.parameters()) p.zero_if_fresh();
  EXPECT_EQ(a.grad.span<float>()[0], 5.0F) << "written: kept";
  EXPECT_EQ(b.grad.span<float>()[0], 0.0F) << "not written: zeroed";
  store.begin_gradients();
  a.zero_if_fresh();
  EXPECT_EQ(a.grad.span<float>()[0], 0.0F);
  a.grad.span<float>()[0] = 3.0F;
  a.zero_if_fresh();
  EXPECT_EQ(a.grad.span<float>()[0], 3.0F);
}

}  // namespace
}  // namespace farsight
