// SPDX-License-Identifier: Apache-2.0
// Random and damaged tables of measurements under random options, from consecutive seeds. Either a table comes out that
// keeps what series_table.h promises, or an Error{data} (Error{usage} where options contradict the file). Ends at the
// first that breaks this.
//
//   series_csv_fuzz [--seed FIRST] [--count N]      --count 0 runs until it is stopped
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "data/series_csv.h"
#include "data/series_split.h"
#include "kernels/error.h"
#include "tests/fuzz/fuzz_driver.h"

namespace farsight {
namespace {

using Random = std::mt19937_64;

uint64_t below(Random& random, uint64_t limit) { return limit == 0 ? 0 : random() % limit; }

// What the readers look for, whole and broken.
std::string fragment(Random& random) {
  static constexpr const char* kFragments[] = {"\xEF\xBB\xBF",
                                               "\r\n",
                                               "\r",
                                               "\n",
                                               ",",
                                               ";",
                                               "\t",
                                               " ",
                                               "\"",
                                               "\"\"",
                                               "date",
                                               "time",
                                               "id",
                                               "a",
                                               "2020-01-01",
                                               "2020-01-02 00:00",
                                               "2020-02-30",
                                               "2016-03-27 02:30",
                                               "1990/1/1 0:00",
                                               "1467331200",
                                               "2262-01-01",
                                               "01/02/2020",
                                               "31.12.99",
                                               "1.5",
                                               "-2e3",
                                               "1e39",
                                               "1,5",
                                               "1.234,5",
                                               "1,234.5",
                                               "NaN",
                                               "inf",
                                               "-9999",
                                               "n/a",
                                               "\xFF",
                                               "\xFF\xFE",
                                               "0",
                                               "999999999999999999999",
                                               "-",
                                               "+",
                                               "."};
  return kFragments[below(random, std::size(kFragments))];
}

std::string random_bytes(Random& random) {
  std::string text;
  for (uint64_t n = below(random, 60); n > 0; --n) text += fragment(random);
  return text;
}

// A table as it should be, in one of a few forms.
std::string good_table(Random& random) {
  const char delimiter = ",;\t"[below(random, 3)];
  const char* end = below(random, 2) == 0 ? "\n" : "\r\n";
  const uint64_t rows = 1 + below(random, 40), columns = 1 + below(random, 4), step = below(random, 3);
  std::string text = "date";
  for (uint64_t c = 0; c < columns; ++c) text += fmt::format("{}{}", delimiter, static_cast<char>('a' + c));
  text += end;
  for (uint64_t t = 0; t < rows; ++t) {
    text += step == 0   ? fmt::format("2016-03-27 {:02}:{:02}", t / 60, t % 60)
            : step == 1 ? fmt::format("{}/{}/1", 1990 + t / 12, 1 + t % 12)
                        : fmt::format("{}", 1467331200 + t * 3600);
    for (uint64_t c = 0; c < columns; ++c)
      text += fmt::format("{}{}", delimiter, static_cast<double>(below(random, 1000)) / 8);
    text += end;
  }
  return text;
}

std::string mutated(Random& random, std::string text) {
  for (uint64_t n = below(random, 5); n > 0 && !text.empty(); --n) {
    const size_t at = below(random, text.size());
    switch (below(random, 5)) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.insert(at, fragment(random));
        break;
      case 2:
        text.erase(at, below(random, 40));
        break;
      case 3:
        text.insert(at, text.substr(below(random, text.size()), below(random, 60)));
        break;
      default:
        text.resize(at);
        break;
    }
  }
  return text;
}

SeriesCsvOptions random_options(Random& random) {
  SeriesCsvOptions options;
  const auto pick = [&](std::initializer_list<const char*> values) {
    return std::string(values.begin()[below(random, values.size())]);
  };
  const auto rarely = [&] { return below(random, 6) == 0; };
  if (rarely()) options.series = pick({"a", "id"});
  if (rarely()) options.targets = {pick({"a", "b"})};
  if (rarely()) options.known_future = {pick({"b", "c"})};
  if (rarely()) options.statics = {pick({"c", "d"})};
  if (rarely()) options.drop = {pick({"a", "d", "column 2"})};
  if (rarely()) options.date_format = pick({"%Y-%m-%d %H:%M", "%d.%m.%y", "epoch-s", "epoch-ms", "%Y%m%d%H%M%S%f%z"});
  if (rarely()) options.timezone = pick({"Europe/Berlin", "America/New_York", "Etc/GMT-1"});
  if (rarely()) options.frequency = pick({"1min", "1h", "1M", "irregular"});
  if (rarely()) options.delimiter = ",;\t "[below(random, 4)];
  if (rarely()) options.decimal = ',';
  options.missing = static_cast<MissingPolicy>(below(random, 3));
  options.duplicates = static_cast<DuplicatePolicy>(below(random, 4));
  if (rarely()) options.sentinels = {{.value = -9999, .channel = pick({"", "a"})}};
  options.sort = below(random, 2) == 0;
  options.open_end = below(random, 3) == 0;
  return options;
}

std::string broken_promise(const SeriesCsv& csv) {
  const size_t channels = csv.table.channels.size();
  if (channels == 0 || csv.table.series.empty()) return "a table without channel or series";
  for (const Series& series : csv.table.series) {
    if (series.time.empty() || series.values.size() != series.time.size() * channels) return "sizes differ";
    if (!series.mask.empty() && series.mask.size() != series.values.size()) return "the mask has another size";
    if (std::adjacent_find(series.time.begin(), series.time.end(), std::greater_equal<>()) != series.time.end()) {
      return "time does not increase";
    }
    for (size_t i = 0; i < series.values.size(); ++i) {
      const bool observed = series.mask.empty() || series.mask[i] == 1;
      if (observed != std::isfinite(series.values[i])) return "mask and values disagree";
    }
    if (series.statics.size() != csv.table.static_names.size()) return "statics are missing";
  }
  return "";
}

std::string check(uint64_t seed) {
  Random random(seed);
  const std::string text = seed % 4 == 0 ? random_bytes(random) : mutated(random, good_table(random));
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("farsight-series-csv-fuzz-{}.csv", ::getpid())).string();
  std::ofstream(path, std::ios::binary) << text;
  SeriesCsvOptions options = random_options(random);
  options.inputs = {path};
  std::string wrong;
  try {
    SeriesCsv csv = read_series_csv(options);
    wrong = broken_promise(csv);
    split_series(seed % 2 == 0 ? "0.7/0.1/0.2" : "dates:1995-01-01/2016-03-27T00:10", csv.table);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data && error.kind() != ErrorKind::usage) wrong = error.what();
  } catch (const std::exception& error) {
    wrong = std::string("foreign exception: ") + error.what();
  }
  std::filesystem::remove(path);
  return wrong.empty() ? "" : fmt::format("{}\nthe table:\n{}", wrong, text);
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) { return farsight::run_fuzz("series_csv_fuzz", argc, argv, farsight::check); }
