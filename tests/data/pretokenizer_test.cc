// SPDX-License-Identifier: Apache-2.0
#include "data/pretokenizer.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <unicode/uchar.h>

#include "data/unicode_ranges.h"
#include "data/utf8.h"

namespace farsight {
namespace {

bool in_ranges(std::span<const CodeRange> ranges, uint32_t code) {
  for (const CodeRange& range : ranges) {
    if (code >= range.first && code <= range.last) return true;
  }
  return false;
}

TEST(UnicodeRanges, AgreeWithIcu) {
  if (std::string(U_UNICODE_VERSION) != kUnicodeVersion) {
    GTEST_SKIP() << "ICU has Unicode " << U_UNICODE_VERSION << ", the tables are of " << kUnicodeVersion;
  }
  for (uint32_t code = 0; code < 0x110000; ++code) {
    const auto mask = U_GET_GC_MASK(static_cast<UChar32>(code));
    ASSERT_EQ(in_ranges(letter_ranges(), code), (mask & U_GC_L_MASK) != 0) << code;
    ASSERT_EQ(in_ranges(number_ranges(), code), (mask & U_GC_N_MASK) != 0) << code;
    ASSERT_EQ(in_ranges(space_ranges(), code), u_hasBinaryProperty(static_cast<UChar32>(code), UCHAR_WHITE_SPACE) != 0)
        << code;
  }
}

std::vector<std::string> cut(const std::string& text) {
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t end = pretoken_end(text, at);
    EXPECT_GT(end, at);
    pieces.push_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}

using Pieces = std::vector<std::string>;

TEST(Pretokenizer, CutsContractionsSpacesNumbersAndScripts) {
  EXPECT_EQ(cut("it's we'll I'd they've"), (Pieces{"it", "'s", " we", "'ll", " I", "'d", " they", "'ve"}));
  EXPECT_EQ(cut("'sx 'X 's"), (Pieces{"'s", "x", " '", "X", " '", "s"}));
  EXPECT_EQ(cut("a  b   "), (Pieces{"a", " ", " b", "   "}));
  EXPECT_EQ(cut("a \n b\n\nc\n"), (Pieces{"a", " \n", " b", "\n", "\n", "c", "\n"}));
  EXPECT_EQ(cut("x1,2 34!"), (Pieces{"x", "1", ",", "2", " 34", "!"}));
  EXPECT_EQ(cut("\xE6\x97\xB6\xE9\x97\xB4, \xC3\xA9t"), (Pieces{"\xE6\x97\xB6\xE9\x97\xB4", ",", " \xC3\xA9t"}));
  EXPECT_EQ(cut("e\xCC\x81"), (Pieces{"e", "\xCC\x81"})) << "a combining mark is neither letter nor number";
  EXPECT_EQ(cut("a\xC2\xA0 b"), (Pieces{"a", "\xC2\xA0", " b"})) << "a no-break space is a space";
  EXPECT_EQ(cut("a\xFF\xFE b"), (Pieces{"a", "\xFF\xFE", " b"})) << "bytes that are not UTF-8";
}

// The pattern itself, tried alternative by alternative on code points: slow and literal.
class Naive {
 public:
  explicit Naive(const std::string& text) {
    for (size_t at = 0; at < text.size();) {
      const Utf8Character c = decode_character(std::string_view(text).substr(at));
      codes_.push_back(c.code);
      bytes_.push_back(text.substr(at, c.length));
      at += c.length;
    }
  }
  Pieces cut() const {
    Pieces pieces;
    for (size_t at = 0; at < codes_.size();) {
      const size_t end = match(at);
      std::string piece;
      for (; at < end; ++at) piece += bytes_[at];
      pieces.push_back(piece);
    }
    return pieces;
  }

 private:
  static int kind(uint32_t code) {
    if (u_hasBinaryProperty(static_cast<UChar32>(code), UCHAR_WHITE_SPACE) != 0) return 0;
    const auto mask = U_GET_GC_MASK(static_cast<UChar32>(code));
    return (mask & U_GC_L_MASK) != 0 ? 1 : (mask & U_GC_N_MASK) != 0 ? 2 : 3;
  }
  size_t run(size_t at, int wanted) const {
    while (at < codes_.size() && kind(codes_[at]) == wanted) ++at;
    return at;
  }
  size_t match(size_t at) const {
    for (const char* tail : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      const std::string word = std::string("'") + tail;
      size_t i = 0;
      while (i < word.size() && at + i < codes_.size() && codes_[at + i] == static_cast<uint32_t>(word[i])) ++i;
      if (i == word.size()) return at + i;
    }
    for (const int wanted : {1, 2, 3}) {
      const size_t begin = codes_[at] == ' ' ? at + 1 : at;
      if (run(begin, wanted) > begin) return run(begin, wanted);
    }
    const size_t end = run(at, 0);
    return end == codes_.size() || end - at == 1 ? end : end - 1;
  }

  std::vector<uint32_t> codes_;
  Pieces bytes_;
};

std::string random_text(std::mt19937& engine, size_t length) {
  static const std::vector<std::string> kAlphabet = {" ",
                                                     " ",
                                                     "  ",
                                                     "\n",
                                                     "\t",
                                                     "a",
                                                     "b",
                                                     "s",
                                                     "t",
                                                     "re",
                                                     "ll",
                                                     "'",
                                                     "'",
                                                     "1",
                                                     "2",
                                                     ".",
                                                     "!",
                                                     "\xC2\xA0",
                                                     "\xE3\x80\x80",
                                                     "\xC3\xA9",
                                                     "\xCC\x81",
                                                     "\xE6\x97\xB6",
                                                     "\xD9\xA0",
                                                     "\xF0\x9F\x99\x82",
                                                     "\xE2\x80\x94"};
  std::string text;
  while (text.size() < length) text += kAlphabet[engine() % kAlphabet.size()];
  return text;
}

TEST(Pretokenizer, EqualsThePatternTriedLiterally) {
  std::mt19937 engine(5);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_text(engine, 1 + engine() % 40);
    ASSERT_EQ(cut(text), Naive(text).cut()) << text;
  }
}

TEST(Pretokenizer, CertainCutsDoNotChangeThePieces) {
  std::mt19937 engine(6);
  int found = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_text(engine, 1 + engine() % 30), more = random_text(engine, engine() % 20);
    const size_t at = last_certain_cut(text);
    if (at == 0) continue;
    ++found;
    Pieces parts = cut(text.substr(0, at));
    const Pieces rest = cut(text.substr(at) + more);
    parts.insert(parts.end(), rest.begin(), rest.end());
    ASSERT_EQ(parts, cut(text + more)) << text << "|" << more << " at " << at;
  }
  EXPECT_GT(found, 2000);
}

}  // namespace
}  // namespace farsight
