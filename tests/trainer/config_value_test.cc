// SPDX-License-Identifier: Apache-2.0
#include "trainer/config_value.h"

#include <string>

#include <gtest/gtest.h>

namespace farsight {
namespace {

TEST(Amounts, UnitsAndPrefixes) {
  const auto expect = [](const char* text, double value, AmountUnit unit) {
    const auto found = parse_amount(text);
    ASSERT_TRUE(found) << text;
    EXPECT_EQ(found->value, value) << text;
    EXPECT_EQ(found->unit, unit) << text;
  };
  expect("500 steps", 500, AmountUnit::steps);
  expect("1 step", 1, AmountUnit::steps);
  expect("12 samples", 12, AmountUnit::samples);
  expect("10e", 10, AmountUnit::epochs);
  expect("1.5 epochs", 1.5, AmountUnit::epochs);
  expect("2Gt", 2e9, AmountUnit::tokens);
  expect("16384 tokens", 16384, AmountUnit::tokens);
  expect("1.5Mt", 1.5e6, AmountUnit::tokens);
  expect("  3k steps ", 3000, AmountUnit::steps);
  expect("1e3 steps", 1000, AmountUnit::steps);
}

TEST(Amounts, RefusesWhatHasNoMeaning) {
  for (const char* text : {"", "steps", "5", "5 metres", "-3 steps", "1.5 steps", "0.5 tokens", "1e99 tokens", "nan e",
                           "inf steps", "5 steps more", "0x10 steps", "1,5 e"})
    EXPECT_FALSE(parse_amount(text)) << text;
}

TEST(Amounts, TextReadsBack) {
  for (const Amount& amount : {Amount{0, AmountUnit::steps}, Amount{2e9, AmountUnit::tokens},
                               Amount{0.1, AmountUnit::epochs}, Amount{1e-7, AmountUnit::epochs}})
    EXPECT_EQ(parse_amount(to_string(amount)), amount) << to_string(amount);
}

TEST(Durations, UnitsAddUp) {
  EXPECT_EQ(parse_duration("23h30m"), 84600.0);
  EXPECT_EQ(parse_duration("90s"), 90.0);
  EXPECT_EQ(parse_duration("1d 2h"), 93600.0);
  EXPECT_EQ(parse_duration("250ms"), 0.25);
  EXPECT_EQ(parse_duration("1.5h"), 5400.0);
  EXPECT_EQ(parse_duration("20"), 20.0);
  for (const char* text : {"", "h", "-1s", "1 year", "1h30", "nan", "inf", "1e300s"})
    EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Durations, TextReadsBack) {
  for (const double seconds : {0.0, 0.001, 0.25, 1.0, 59.0, 3600.0, 84600.0, 90061.0, 1.125})
    EXPECT_EQ(parse_duration(format_duration(seconds)), seconds) << format_duration(seconds);
  EXPECT_EQ(format_duration(84600.0), "23h30m");
}

TEST(Bytes, BinaryAndDecimalUnits) {
  EXPECT_EQ(parse_bytes("4GiB"), 4LL << 30);
  EXPECT_EQ(parse_bytes("512 KiB"), 512LL << 10);
  EXPECT_EQ(parse_bytes("80GB"), 80000000000LL);
  EXPECT_EQ(parse_bytes("1.5MiB"), 3LL << 19);
  EXPECT_EQ(parse_bytes("100"), 100);
  for (const char* text : {"", "MiB", "-1", "4 gigs", "0.3B", "4GiB2", "1e300TiB", "nanB"})
    EXPECT_FALSE(parse_bytes(text)) << text;
}

TEST(Bytes, TextReadsBack) {
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{1023}, int64_t{4} << 20, (int64_t{1} << 40) + 1})
    EXPECT_EQ(parse_bytes(format_bytes(bytes)), bytes);
}

TEST(Masks, TermsJoin) {
  std::string reason;
  const auto parse = [&](const char* text) { return parse_mask(text, reason); };
  EXPECT_EQ(parse("causal"), (MaskConfig{true, kUnlimitedWindow, kUnlimitedWindow}));
  EXPECT_EQ(parse("full"), (MaskConfig{false, kUnlimitedWindow, kUnlimitedWindow}));
  EXPECT_EQ(parse("window(8,2)"), (MaskConfig{false, 8, 2}));
  EXPECT_EQ(parse("window( 8 , 2 ) and window(4,9)"), (MaskConfig{false, 4, 2}));
  EXPECT_EQ(parse("causal and window(1024,0)"), (MaskConfig{true, 1024, kUnlimitedWindow}));
  for (const char* text :
       {"", "causal and", "window(1)", "window(-1,0)", "window(1,2", "casual", "window(1,2,3)", "window(9999999999,0)"})
    EXPECT_FALSE(parse(text)) << text;
  EXPECT_FALSE(reason.empty());
}

TEST(Masks, TextReadsBack) {
  std::string reason;
  for (const char* text : {"causal", "full", "window(8,2)", "causal and window(100,0)"})
    EXPECT_EQ(format_mask(*parse_mask(text, reason)), text);
}

TEST(Texts, QuotesAreTomlStrings) {
  EXPECT_EQ(quote("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000A\"");
  EXPECT_EQ(format_real(1.0), "1.0");
  EXPECT_EQ(format_real(1e-5), "1e-05");
  EXPECT_EQ(format_real(0.1), "0.1");
}

}  // namespace
}  // namespace farsight
