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
  EXPECT_EQ(store.slab_elements(), 34);
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

TEST(ParameterStore, GradientsStartAfreshEachStepAndUnwrittenOnesAreZeroed) {
  ParameterStore store;
  Parameter& a = store.add("a", {2}, {});
  Parameter& b = store.add("b", {2}, {});
  store.allocate();
  a.grad.span<float>()[0] = b.grad.span<float>()[0] = 5.0F;
  store.begin_gradients();
  EXPECT_EQ(a.begin_accumulate(), 0.0F);
  EXPECT_EQ(a.begin_accumulate(), 1.0F);
  store.finish_gradients();
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
