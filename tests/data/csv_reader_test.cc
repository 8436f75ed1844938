// SPDX-License-Identifier: Apache-2.0
#include "data/csv_reader.h"

#include <algorithm>
#include <clocale>
#include <cmath>
#include <limits>
#include <random>

#include "data/csv_number.h"
#include "tests/data/scratch.h"

namespace farsight {
namespace {

using Random = std::mt19937_64;
using Records = std::vector<std::vector<std::string>>;

class CsvReaderTest : public testing::Test {
 protected:
  Records read(const std::string& bytes, char delimiter = '\0') {
    CsvReader reader(scratch_.write("t.csv", bytes), delimiter);
    Records records;
    while (reader.next()) {
      records.emplace_back();
      for (size_t i = 0; i < reader.columns(); ++i) records.back().emplace_back(reader.cell(i));
    }
    return records;
  }

  std::string refused(const std::string& bytes, char delimiter = '\0') {
    return error_of(ErrorKind::data, [&] { read(bytes, delimiter); });
  }

  Scratch scratch_;
};

TEST_F(CsvReaderTest, RecordsOfEveryDialect) {
  const Records plain = {{"a", "b"}, {"1", "2"}};
  for (const char* text :
       {"a,b\n1,2\n", "a,b\n1,2", "a,b\r\n1,2\r\n", "a,b\r\n1,2\r", "\xEF\xBB\xBF\x61,b\n1,2\n", "a;b\n1;2\n",
        "a\tb\n1\t2\n", " a ,\tb \n 1, 2\n", "\"a\",\"b\"\n1,\"2\"\n", "a, \"b\" \n1,2"}) {
    EXPECT_EQ(read(text), plain) << text;
  }
  EXPECT_EQ(read("\"a,b\",\"c\"\"d\",\"e\nf\",\" g \"\n"), (Records{{"a,b", "c\"d", "e\nf", " g "}}));
  EXPECT_EQ(read("a,b\n,\n"), (Records{{"a", "b"}, {"", ""}}));
  EXPECT_EQ(read("a,b\n1,2\n\n\n"), (Records{{"a", "b"}, {"1", "2"}, {""}, {""}}));
  EXPECT_EQ(read("a,\"\"\n\"\"\"\",1"), (Records{{"a", ""}, {"\"", "1"}}));
  EXPECT_EQ(read("a,5\" pipe\n1,2"), (Records{{"a", "5\" pipe"}, {"1", "2"}}));
  EXPECT_EQ(read("a;b,c\n1;2", ';'), (Records{{"a", "b,c"}, {"1", "2"}}));
  EXPECT_EQ(read("a\t\t\n1\t \t2\n"), (Records{{"a", "", ""}, {"1", "", "2"}}));
  EXPECT_TRUE(read("").empty());
}

TEST_F(CsvReaderTest, TheDelimiterIsTheOneThatIsEquallyOften) {
  EXPECT_EQ(read("date;a, b;c\n1;2;3\n")[0][1], "a, b");
  EXPECT_EQ(read("t;x\n1;1,5\n2;2,5\n")[1][1], "1,5");
  EXPECT_EQ(read("t,\"a;b\"\n1,2\n")[0][1], "a;b");
  EXPECT_EQ(read("x\n1\n")[1][0], "1");
  EXPECT_EQ(read("a;b\n1;2;3\n")[1].size(), 3U);  // ragged: for the caller to report
  EXPECT_CONTAINS(refused("d;a, b\n1;2,5\n"), "t.csv:1: a comma and a semicolon can both stand between the columns");
}

TEST_F(CsvReaderTest, ADecimalCommaIsNoDelimiterBesideAnother) {
  CsvReader reader(scratch_.write("t.csv", "d;a, b\n1;2,5\n"), '\0', ',');
  EXPECT_EQ(reader.delimiter(), ';');
  CsvReader quoted(scratch_.write("t.csv", "d,a\n1,\"2,5\"\n"), '\0', ',');
  EXPECT_EQ(quoted.delimiter(), ',');
}

TEST_F(CsvReaderTest, PlacesCountLinesInsideQuotes) {
  CsvReader reader(scratch_.write("t.csv", "a,b\n\"x\"\"\n\ny\",2\n3,4\n"), ',');
  ASSERT_TRUE(reader.next() && reader.next());
  EXPECT_EQ(reader.line(), 2);
  EXPECT_EQ(reader.cell(0), "x\"\n\ny");
  EXPECT_EQ(reader.at(1), scratch_.path("t.csv") + ":4:2");
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.at(0), scratch_.path("t.csv") + ":5:1");
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.next());
}

TEST_F(CsvReaderTest, WhatIsRefused) {
  EXPECT_CONTAINS(refused("a,b\n1,\"2\n3,4\n"), "t.csv:2:2: the quote that begins here is not closed");
  EXPECT_CONTAINS(refused("a,b\n\"1\"x,2\n"), "t.csv:2:1: text behind a closing quote");
  EXPECT_CONTAINS(refused("a,b\r1,2\r3,4\r"), "t.csv:1:2: a carriage return inside the line");
  EXPECT_CONTAINS(refused(std::string("\xFF\xFE\x61\0\x62\0", 6)),
                  "UTF-16 little-endian text; convert it: iconv -f UTF-16");
  EXPECT_CONTAINS(refused("\xFE\xFF"), "UTF-16 big-endian text");
  EXPECT_CONTAINS(refused("\x1F\x8B\x08"), "gzip data; rename it to");
  EXPECT_CONTAINS(refused(std::string("a,b\n1,\0002\n", 9)), "t.csv: byte 6: NUL byte");
  EXPECT_CONTAINS(refused("a," + std::string(700'000, ' ') + std::string(1, '\0')), "byte 700,002: NUL byte");
  EXPECT_CONTAINS(refused(std::string(65'536, ',')), "t.csv:1:65537: more than 65536 columns");
  EXPECT_EQ(read(std::string(65'535, ','))[0].size(), 65'536U);
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { CsvReader(scratch_.path("absent.csv"), ','); }),
                  "absent.csv: cannot open");
}

TEST_F(CsvReaderTest, ARecordOfMoreThan64MiBIsRefused) {
  const std::string half(40 << 20, 'x');
  EXPECT_EQ(read("a,b\n\"" + half + "\n\",2\n", ',')[1][0].size(), half.size() + 1);
  EXPECT_CONTAINS(refused("a,b\n\"" + half + half, ','),
                  "t.csv:2: a record of more than 64 MiB; is a quote not closed?");
}

// Cells of random bytes in random dialects, in records that cross the borders of the reader's buffer.
TEST_F(CsvReaderTest, RandomTablesComeBack) {
  Random random(4);
  for (int round = 0; round < 300; ++round) {
    const char delimiter = ",;\t"[random() % 3];
    const char* end = random() % 2 == 0 ? "\n" : "\r\n";
    const size_t columns = 1 + random() % 6, longest = round % 50 == 0 ? 300'000 : 12;
    Records records(1 + random() % 30);
    std::string text = random() % 4 == 0 ? "\xEF\xBB\xBF" : "";
    for (auto& record : records) {
      for (size_t c = 0; c < columns; ++c) {
        std::string cell, written;
        for (size_t n = random() % longest; n > 0; --n) cell += "ab1.,;\t \"\n\r\xC3"[random() % 12];
        for (const char byte : cell) written.append(byte == '"' ? 2 : 1, byte);
        const bool plain = cell.find_first_of(",;\t \"\n\r") == std::string::npos && !cell.empty();
        const std::string blanks(random() % 2, ' ');
        if (!plain || random() % 2 == 0) written = fmt::format("\"{}\"", written);
        if (c > 0) text += delimiter;
        text += fmt::format("{0}{1}{0}", blanks, written);
        record.push_back(cell);
      }
      text += end;
    }
    if (random() % 2 == 0) text.resize(text.size() - std::string(end).size());
    EXPECT_EQ(read(text, delimiter), records) << text.substr(0, 300);
  }
}

// ---- numbers

TEST(CsvNumbers, AreTheNearestFloat) {
  EXPECT_EQ(read_cell("5.827000141143799", '.').value, 5.827000141143799F);
  EXPECT_EQ(read_cell(" -1.5e3\t", '.').value, -1500.0F);
  EXPECT_EQ(read_cell("+.5", '.').value, 0.5F);
  EXPECT_EQ(read_cell("7.", '.').value, 7.0F);
  EXPECT_EQ(read_cell("1,5", ',').value, 1.5F);
  EXPECT_EQ(read_cell("1e-60", '.').value, 0.0F);
  EXPECT_EQ(read_cell("-1e-999999999999999999999", '.').value, 0.0F);
  EXPECT_EQ(read_cell("0." + std::string(500, '0') + "1", '.').value, 0.0F);
  EXPECT_EQ(read_cell("1e-45", '.').value, std::numeric_limits<float>::denorm_min());
  // Halfway between two floats but for the last digit: double first would round twice.
  EXPECT_EQ(read_cell("1.000000059604644775390625000001", '.').value, std::nextafter(1.0F, 2.0F));
  EXPECT_EQ(read_cell("1.000000059604644775390625", '.').value, 1.0F);
}

TEST(CsvNumbers, RandomFloatsComeBackWithEitherMark) {
  Random random(5);
  for (int i = 0; i < 50'000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    float value = 0.0F;
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) continue;
    std::string text = fmt::format("{}", value);
    EXPECT_EQ(read_cell(text, '.').value, value) << text;
    std::replace(text.begin(), text.end(), '.', ',');
    EXPECT_EQ(read_cell(text, ',').value, value) << text;
  }
}

TEST(CsvNumbers, WhatElseACellCanBe) {
  const auto kind = [](const char* text, char decimal = '.') { return read_cell(text, decimal).kind; };
  for (const char* text : {"", "  ", "NaN", "nan", "-nan", "NA", "n/a", "N/A", "#N/A", "null", "None", "-", "--", "?",
                           "inf", "-inf", "+Infinity"}) {
    EXPECT_EQ(kind(text), CellKind::missing) << text;
    EXPECT_EQ(kind(text, ','), CellKind::missing) << text;
  }
  for (const char* text :
       {"abc", "1.5kW", "+-5", "0x10", "1e", "1 2", "1.2.3", "1,2,3", "+", ".", "e5", "--5", "nano", "infty"}) {
    EXPECT_EQ(kind(text), CellKind::text) << text;
  }
  for (const char* text : {"1,5", "-0,25", "1.234,5", "1.234.567,89", "1,234"}) {
    EXPECT_EQ(kind(text), CellKind::decimal_comma) << text;
  }
  for (const char* text : {"1,234.5", "1,234,567", "1 234", "1'234'567.8", "1.234.567"}) {
    EXPECT_EQ(kind(text), CellKind::thousands) << text;
  }
  EXPECT_EQ(kind("1.5", ','), CellKind::decimal_point);
  EXPECT_EQ(kind("1,234.5", ','), CellKind::decimal_point);
  EXPECT_EQ(kind("1.234,5", ','), CellKind::thousands);
  EXPECT_EQ(kind("1e39"), CellKind::too_large);
  EXPECT_EQ(kind("-1e400"), CellKind::too_large);
  EXPECT_EQ(kind((std::string(400, '9')).c_str()), CellKind::too_large);
}

TEST(CsvNumbers, TheLocalePlaysNoPart) {
  for (const char* locale : {"de_DE.UTF-8", "tr_TR.UTF-8"}) {
    if (std::setlocale(LC_ALL, locale) == nullptr) continue;
    EXPECT_EQ(read_cell("1.5", '.').value, 1.5F);
    EXPECT_EQ(read_cell("INF", '.').kind, CellKind::missing);
  }
  std::setlocale(LC_ALL, "C");
}

}  // namespace
}  // namespace farsight
