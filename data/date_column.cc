// SPDX-License-Identifier: Apache-2.0
#include "data/date_column.h"

#include <algorithm>

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr size_t kCandidatesShown = 5;
constexpr size_t kLongestShown = 40;
constexpr size_t kTwiceKept = 1000;
constexpr const char* kClockAdvice =
    "write dates with their offset, or pass the --timezone of a clock that is never changed (Etc/GMT-1 is +01:00)";

// Forms that are offered to the user, and never taken without being asked for: another form could fit as well.
std::vector<std::string> candidate_formats() {
  std::vector<std::string> dates = {"%Y-%m-%d", "%Y/%m/%d", "%Y%m%d",   "%Y.%m.%d", "%Y %m %d",
                                    "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y"};
  for (const char* form : {"%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%y/%m/%d"}) {
    for (const char separator : {'/', '.', '-'}) {
      dates.emplace_back(form);
      std::replace(dates.back().begin(), dates.back().end(), '/', separator);
    }
  }
  std::vector<std::string> all = {"%Y",           "%Y%m",        "%Y%m%d%H", "%Y%m%d%H%M",
                                  "%Y%m%d%H%M%S", "%Y-%m-%d %H", "epoch-s",  "epoch-ms"};
  for (const std::string& date : dates) {
    for (const char* time :
         {"", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p"})
      all.push_back(date + time);
  }
  return all;
}

std::string shown(std::string_view cell) {
  const bool whole = cell.size() <= kLongestShown;
  return fmt::format("'{}{}'", cell.substr(0, kLongestShown), whole ? "" : "...");
}

}  // namespace

bool is_plain_date(std::string_view cell) {
  return read_date(DateForm::iso, cell).has_value() || read_date(DateForm::year_slash, cell).has_value();
}

DateColumn::DateColumn(const std::string& format, const std::string& timezone) : zone_(timezone) {
  if (!format.empty()) format_ = DateFormat::parse(format);
}

std::optional<int64_t> DateColumn::read(std::string_view cell, const std::string& file, int64_t line, size_t column) {
  const auto place = [&] { return fmt::format("{}:{}:{}", file, line, column); };
  const std::optional<DateReading> date = read_form(cell);
  if (!date) {
    refuse(cell, place());
    return std::nullopt;
  }
  if (++taken_ == 1 && refused_ == 0) {
    first_place_ = place();
    first_cell_ = cell;
  }
  if (compact_ || taken_ == 1) try_compact(cell);
  std::optional<int64_t> utc = date->ns;
  if (!date->has_offset && !zone_.is_utc()) utc = to_utc(*date, cell, place);
  if (last_file_ != file) last_file_ = file;
  if (utc) last_line_ = line;
  return utc;
}

void DateColumn::refuse(std::string_view cell, const std::string& place) {
  if (++refused_ == 1 && taken_ == 0) {
    first_place_ = place;
    first_cell_ = cell;
  }
  if (!format_ && taken_ == 0) try_candidates(cell, place);
  problems_.add("cells that are no dates", fmt::format("{}: {} is not a date; see --date-format{}", place, shown(cell),
                                                       format_ ? fmt::format(" (it is '{}')", format_->text()) : ""));
}

// The form of the first cell that has one is the form of all.
std::optional<DateReading> DateColumn::read_form(std::string_view cell) {
  if (format_) return format_->read(cell);
  if (form_) return read_date(*form_, cell);
  for (const DateForm form : kDateForms) {
    const std::optional<DateReading> date = read_date(form, cell);
    if (!date) continue;
    form_ = form;
    return date;
  }
  return std::nullopt;
}

// 2020013100 and 202001311200 are hours and minutes of a day as well as seconds and milliseconds since 1970.
void DateColumn::try_compact(std::string_view cell) {
  if (format_ || (form_ != DateForm::epoch_s && form_ != DateForm::epoch_ms)) return;
  if (!compact_) compact_ = DateFormat::parse(form_ == DateForm::epoch_s ? "%Y%m%d%H" : "%Y%m%d%H%M");
  if (!compact_->read(cell)) compact_.reset();
}

std::optional<int64_t> DateColumn::to_utc(const DateReading& date, std::string_view cell,
                                          const std::function<std::string()>& place) {
  const TimeZone::Moment moment = zone_.to_utc(date.ns);
  if (moment.outcome == TimeZone::Outcome::unique) return moment.utc_ns;
  const std::string before = offset_text(moment.before_offset_s), after = offset_text(moment.after_offset_s);
  if (moment.outcome == TimeZone::Outcome::skipped) {
    problems_.add(
        "local times that do not exist",
        fmt::format("{}: {} does not exist in {}: clocks were put forward from {} to {}{}; {}", place(), shown(cell),
                    zone_.name(), before, after,
                    last_line_ == 0 ? "" : fmt::format(" after {}:{}", last_file_, last_line_), kClockAdvice));
    return std::nullopt;
  }
  const auto same = std::find_if(twice_.begin(), twice_.end(), [&](const auto& each) { return each.first == date.ns; });
  const std::string other = same == twice_.end() ? "" : fmt::format(" (it stands at {} too)", same->second);
  if (same == twice_.end() && twice_.size() < kTwiceKept) twice_.emplace_back(date.ns, place());
  problems_.add("local times that were twice",
                fmt::format("{}: {} was twice in {}, at {} and at {}: clocks were put back{}; {}", place(), shown(cell),
                            zone_.name(), before, after, other, kClockAdvice));
  return std::nullopt;
}

void DateColumn::try_candidates(std::string_view cell, const std::string& place) {
  if (candidates_.empty()) {
    for (const std::string& text : candidate_formats()) {
      candidates_.push_back({.format = DateFormat::parse(text), .fits = 0, .misfit = {}});
    }
  }
  for (Candidate& candidate : candidates_) {
    if (candidate.format.read(cell)) {
      ++candidate.fits;
    } else if (candidate.misfit.empty()) {
      candidate.misfit = fmt::format("{} ({})", shown(cell), place);
    }
  }
}

std::string DateColumn::candidates_text() const {
  std::vector<const Candidate*> fitting;
  for (const Candidate& candidate : candidates_) {
    if (candidate.fits > 0) fitting.push_back(&candidate);
  }
  std::stable_sort(fitting.begin(), fitting.end(), [](const auto* a, const auto* b) { return a->fits > b->fits; });
  if (fitting.size() > kCandidatesShown) fitting.resize(kCandidatesShown);
  std::string text;
  for (const Candidate* candidate : fitting) {
    text += fmt::format("\n  --date-format='{}'", candidate->format.text());
    text += candidate->misfit.empty() ? fmt::format(" fits all {} rows", with_commas(refused_))
                                      : fmt::format(" fits {} of {} rows, not {}", with_commas(candidate->fits),
                                                    with_commas(refused_), candidate->misfit);
  }
  return text;
}

void DateColumn::finish(Problems& problems) {
  if (compact_ && taken_ > 0) {
    problems_.add(
        "dates",
        fmt::format(
            "{}: {} is a date in more than one form, and none is guessed; pass --date-format={} or --date-format={}",
            first_place_, shown(first_cell_), form_ == DateForm::epoch_s ? "epoch-s" : "epoch-ms", compact_->text()));
  }
  const std::string candidates = taken_ == 0 ? candidates_text() : "";
  if (candidates.empty()) {
    problems.merge(std::move(problems_));
    return;
  }
  problems.add(
      "dates",
      fmt::format("{}: {} is not a date that is understood without being told, and no form is guessed; pass one of{}",
                  first_place_, shown(first_cell_), candidates));
}

}  // namespace farsight
