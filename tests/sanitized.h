// SPDX-License-Identifier: Apache-2.0
// Tests that repeat one thing many times do so less often under a sanitizer, which needs a few of each kind only.
#pragma once

namespace farsight {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace farsight
