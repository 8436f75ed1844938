// SPDX-License-Identifier: Apache-2.0
#include "data/date_time.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>

#include "kernels/error.h"

namespace farsight {

namespace {

namespace chrono = std::chrono;

constexpr int64_t kSecond = 1'000'000'000, kMinute = 60 * kSecond, kHour = 60 * kMinute, kDay = 24 * kHour;
constexpr int kFractionDigits = 9;
constexpr int kLargestOffsetHours = 15;
constexpr std::string_view kMonths = "janfebmaraprmayjunjulaugsepoctnovdec";
constexpr std::string_view kDirectives = "YymdHIpMSfzb";

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// What a date says, before it is known whether there is such a day.
struct Fields {
  int year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0;
  int64_t fraction_ns = 0;
  std::optional<int64_t> offset_ns;
  std::optional<bool> afternoon;  // the hour is one of twelve
};

std::optional<DateReading> reading_of(const Fields& f) {
  const chrono::year_month_day date{chrono::year{f.year}, chrono::month{static_cast<unsigned>(f.month)},
                                    chrono::day{static_cast<unsigned>(f.day)}};
  if (f.year < kFirstYear || f.year > kLastYear || !date.ok()) return std::nullopt;
  if (f.hour > 23 || f.minute > 59 || f.second > 59) return std::nullopt;
  if (f.afternoon && (f.hour < 1 || f.hour > 12)) return std::nullopt;
  const int hour = f.afternoon ? f.hour % 12 + (*f.afternoon ? 12 : 0) : f.hour;
  const int64_t days = chrono::sys_days(date).time_since_epoch().count();
  const int64_t wall = days * kDay + hour * kHour + f.minute * kMinute + f.second * kSecond + f.fraction_ns;
  return DateReading{.ns = wall - f.offset_ns.value_or(0), .has_offset = f.offset_ns.has_value()};
}

// Walks over a text from its beginning. What does not fit is left where it is.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool at_end() const { return text_.empty(); }
  char peek() const { return text_.empty() ? '\0' : text_[0]; }

  bool take(char c) {
    if (peek() != c || text_.empty()) return false;
    text_.remove_prefix(1);
    return true;
  }

  // A number of `least` to `most` digits, as many as there are.
  bool number(size_t least, size_t most, int& value) {
    const size_t digits = count_digits(most);
    if (digits < least) return false;
    std::from_chars(text_.data(), text_.data() + digits, value);
    text_.remove_prefix(digits);
    return true;
  }

  // Decimals after the point, as nanoseconds.
  bool fraction(int64_t& ns) {
    const size_t digits = count_digits(kFractionDigits);
    if (digits == 0) return false;
    std::from_chars(text_.data(), text_.data() + digits, ns);
    for (size_t i = digits; i < kFractionDigits; ++i) ns *= 10;
    text_.remove_prefix(digits);
    return true;
  }

  // Z, +02, +0200, +02:00
  bool offset(std::optional<int64_t>& ns) {
    ns = 0;
    if (take('Z') || take('z')) return true;
    const bool west = peek() == '-';
    int hours = 0, minutes = 0;
    if ((!take('-') && !take('+')) || !number(2, 2, hours)) return false;
    const bool colon = take(':');
    if ((colon || is_digit(peek())) && !number(2, 2, minutes)) return false;
    if (hours > kLargestOffsetHours || minutes > 59) return false;
    ns = (west ? -1 : 1) * (hours * kHour + minutes * kMinute);
    return true;
  }

  bool half_of_day(std::optional<bool>& afternoon) {
    const std::string name = lower(2);
    if (name != "am" && name != "pm") return false;
    afternoon = name == "pm";
    text_.remove_prefix(2);
    return true;
  }

  bool month_name(int& month) {
    const std::string name = lower(3);
    const size_t at = kMonths.find(name);
    if (name.size() != 3 || at == std::string_view::npos || at % 3 != 0) return false;
    month = static_cast<int>(at / 3) + 1;
    text_.remove_prefix(3);
    return true;
  }

 private:
  std::string lower(size_t length) const {
    std::string text(text_.substr(0, length));
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return text;
  }

  size_t count_digits(size_t most) const {
    size_t digits = 0;
    while (digits < std::min(most, text_.size()) && is_digit(text_[digits])) ++digits;
    return digits;
  }

  std::string_view text_;
};

// ":15", ":15.5" or nothing.
bool scan_seconds(Scanner& scanner, Fields& f) {
  if (!scanner.take(':')) return true;
  if (!scanner.number(2, 2, f.second)) return false;
  return !scanner.take('.') || scanner.fraction(f.fraction_ns);
}

std::optional<DateReading> read_iso(std::string_view text) {
  Scanner scanner(text);
  Fields f;
  if (!scanner.number(4, 4, f.year) || !scanner.take('-') || !scanner.number(2, 2, f.month)) return std::nullopt;
  if (scanner.at_end()) return reading_of(f);
  if (!scanner.take('-') || !scanner.number(2, 2, f.day)) return std::nullopt;
  if (scanner.at_end()) return reading_of(f);
  if (!scanner.take('T') && !scanner.take(' ') && !scanner.take('t')) return std::nullopt;
  if (!scanner.number(2, 2, f.hour) || !scanner.take(':') || !scanner.number(2, 2, f.minute)) return std::nullopt;
  if (!scan_seconds(scanner, f)) return std::nullopt;
  if (scanner.at_end()) return reading_of(f);
  scanner.take(' ');
  if (!scanner.offset(f.offset_ns) || !scanner.at_end()) return std::nullopt;
  return reading_of(f);
}

std::optional<DateReading> read_year_slash(std::string_view text) {
  Scanner scanner(text);
  Fields f;
  if (!scanner.number(4, 4, f.year) || !scanner.take('/') || !scanner.number(1, 2, f.month)) return std::nullopt;
  if (!scanner.take('/') || !scanner.number(1, 2, f.day)) return std::nullopt;
  if (scanner.at_end()) return reading_of(f);
  if (!scanner.take(' ') || !scanner.number(1, 2, f.hour)) return std::nullopt;
  if (!scanner.take(':') || !scanner.number(2, 2, f.minute) || !scan_seconds(scanner, f)) return std::nullopt;
  return scanner.at_end() ? reading_of(f) : std::nullopt;
}

// A count of units since 1970, with a fraction or without.
std::optional<DateReading> read_epoch(std::string_view text, int64_t unit_ns) {
  int64_t units = 0, fraction_ns = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), units);
  if (error != std::errc()) return std::nullopt;
  Scanner rest(text.substr(static_cast<size_t>(end - text.data())));
  if (!rest.at_end() && (!rest.take('.') || !rest.fraction(fraction_ns) || !rest.at_end())) return std::nullopt;
  const int64_t fraction = fraction_ns / (kSecond / unit_ns), most = int64_t{9'000'000'000} * (kSecond / unit_ns);
  if (units > most || units < -most) return std::nullopt;
  const int64_t ns = units * unit_ns + (text.starts_with('-') ? -fraction : fraction);
  const chrono::year year = chrono::year_month_day(chrono::floor<chrono::days>(
                                                       chrono::sys_time<chrono::nanoseconds>{chrono::nanoseconds(ns)}))
                                .year();
  if (int{year} < kFirstYear || int{year} > kLastYear) return std::nullopt;
  return DateReading{.ns = ns, .has_offset = true};
}

bool digits_between(std::string_view text, size_t least, size_t most) {
  const auto digits = static_cast<size_t>(std::find_if_not(text.begin(), text.end(), is_digit) - text.begin());
  return digits >= least && digits <= most;
}

[[noreturn]] void refuse(const std::string& text, const std::string& why) {
  fail(ErrorKind::usage,
       "--date-format={}: {}; write %Y %y %m %d %H %I %p %M %S %f %z %b and what stands between them, epoch-s or "
       "epoch-ms",
       text, why);
}

bool is_number(char directive) { return directive != '\0' && directive != 'z' && directive != 'b' && directive != 'p'; }

int full_year(int two_digits) { return two_digits + (two_digits >= 69 ? 1900 : 2000); }

}  // namespace

std::optional<DateReading> read_date(DateForm form, std::string_view text) {
  switch (form) {
    case DateForm::iso:
      return read_iso(text);
    case DateForm::year_slash:
      return read_year_slash(text);
    case DateForm::epoch_s:
      return digits_between(text, 9, 10) ? read_epoch(text, kSecond) : std::nullopt;
    case DateForm::epoch_ms:
      return digits_between(text, 12, 13) ? read_epoch(text, kSecond / 1000) : std::nullopt;
  }
  return std::nullopt;
}

DateFormat DateFormat::parse(const std::string& text) {
  DateFormat format;
  format.text_ = text;
  if (text == "epoch-s" || text == "epoch-ms") {
    format.kind_ = text == "epoch-s" ? Kind::epoch_s : Kind::epoch_ms;
    return format;
  }
  std::string seen;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      format.parts_.push_back({.directive = '\0', .literal = text[i], .fixed = false});
      continue;
    }
    const char directive = ++i < text.size() ? text[i] : '\0';
    if (directive == '%') {
      format.parts_.push_back({.directive = '\0', .literal = '%', .fixed = false});
      continue;
    }
    if (directive == '\0' || kDirectives.find(directive) == std::string_view::npos) {
      refuse(text, directive == '\0' ? "it ends with %" : fmt::format("%{} is not understood", directive));
    }
    // Two ways to say one thing count as the same.
    const char what = directive == 'y' ? 'Y' : directive == 'b' ? 'm' : directive == 'I' ? 'H' : directive;
    if (seen.find(what) != std::string::npos) refuse(text, fmt::format("%{} stands there twice", directive));
    seen += what;
    format.parts_.push_back({.directive = directive, .literal = '\0', .fixed = false});
  }
  if (seen.find('Y') == std::string::npos) refuse(text, "there is no year");
  const auto has = [&](const char* part) { return text.find(part) != std::string::npos; };
  if (has("%I") != has("%p")) refuse(text, "%I and %p (AM, PM) belong together");
  for (size_t i = 0; i + 1 < format.parts_.size(); ++i) {
    Part &one = format.parts_[i], &next = format.parts_[i + 1];
    if (is_number(one.directive) && is_number(next.directive)) one.fixed = next.fixed = true;
  }
  return format;
}

std::optional<DateReading> DateFormat::read(std::string_view text) const {
  if (kind_ != Kind::pattern) return read_epoch(text, kind_ == Kind::epoch_s ? kSecond : kSecond / 1000);
  Scanner scanner(text);
  Fields f;
  for (const Part& part : parts_) {
    const size_t least = part.fixed ? 2 : 1;
    bool fits = false;
    switch (part.directive) {
      case '\0':
        fits = scanner.take(part.literal);
        break;
      case 'Y':
        fits = scanner.number(4, 4, f.year);
        break;
      case 'y':
        fits = scanner.number(2, 2, f.year);
        f.year = full_year(f.year);
        break;
      case 'm':
        fits = scanner.number(least, 2, f.month);
        break;
      case 'b':
        fits = scanner.month_name(f.month);
        break;
      case 'd':
        fits = scanner.number(least, 2, f.day);
        break;
      case 'p':
        fits = scanner.half_of_day(f.afternoon);
        break;
      case 'I':
      case 'H':
        fits = scanner.number(least, 2, f.hour);
        break;
      case 'M':
        fits = scanner.number(least, 2, f.minute);
        break;
      case 'S':
        fits = scanner.number(least, 2, f.second);
        break;
      case 'f':
        fits = scanner.fraction(f.fraction_ns);
        break;
      default:
        fits = scanner.offset(f.offset_ns);
        break;
    }
    if (!fits) return std::nullopt;
  }
  return scanner.at_end() ? reading_of(f) : std::nullopt;
}

std::string iso_time(int64_t ns) {
  const chrono::sys_time<chrono::nanoseconds> time{chrono::nanoseconds(ns)};
  const auto days = chrono::floor<chrono::days>(time);
  const chrono::year_month_day date{days};
  const chrono::hh_mm_ss of_day{time - days};
  const int64_t rest = of_day.subseconds().count();
  std::string fraction;
  if (rest % 1'000 != 0) {
    fraction = fmt::format(".{:09}", rest);
  } else if (rest % 1'000'000 != 0) {
    fraction = fmt::format(".{:06}", rest / 1'000);
  } else if (rest != 0) {
    fraction = fmt::format(".{:03}", rest / 1'000'000);
  }
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z", int{date.year()}, static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()), of_day.hours().count(), of_day.minutes().count(),
                     of_day.seconds().count(), fraction);
}

}  // namespace farsight
