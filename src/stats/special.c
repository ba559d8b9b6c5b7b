/* SPDX-License-Identifier: Apache-2.0 */
/* Incomplete gamma and beta functions in log space, and what follows from them. Below the mean a
 * power series or continued fraction gives the lower tail, above it the upper one; the other is one
 * minus it. The leading factor is a Poisson or binomial probability in Loader's saddle-point form,
 * which does not cancel for large arguments as a ln x - x - lgamma(a) does. Start: gamma_tail,
 * beta_tail. */
#include <math.h>
#include <stdbool.h>

#include "stats/special.h"

#define MAX_TERMS 1000000
#define EPS 1e-17

double tt_stats_log_sum_exp(const double *x, size_t n)
{
    double top = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, x[i]);
    if (!isfinite(top))
        return top;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - top);
    return top + log(sum);
}

/* log(1 - exp(x)) for x <= 0, by the branch that keeps its digits (Maechler 2012). */
static double log1m_exp(double x)
{
    if (x >= 0)
        return -INFINITY;
    return x > -M_LN2 ? log(-expm1(x)) : log1p(-exp(x));
}

/* ln n! minus Stirling's formula, for real n > 0. */
static double stirling_error(double n)
{
    if (n < 15) {
        int sign;
        return lgamma_r(n + 1, &sign) - (n + 0.5) * log(n) + n - 0.5 * log(2 * M_PI);
    }
    double r = 1 / (n * n);
    return (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r / 1188)))) / n;
}

/* x ln(x/m) + m - x without cancellation near x = m. */
static double deviance(double x, double m)
{
    if (fabs(x - m) > 0.1 * (x + m))
        return x * log(x / m) + m - x;
    double v = (x - m) / (x + m), sum = (x - m) * v, term = 2 * x * v;
    for (int j = 1; j < 1000; j++) {
        term *= v * v;
        double next = sum + term / (2 * j + 1);
        if (next == sum)
            break;
        sum = next;
    }
    return sum;
}

/* ln of x^a e^-x / Gamma(a+1). */
static double log_poisson(double a, double x)
{
    return -stirling_error(a) - deviance(a, x) - 0.5 * log(2 * M_PI * a);
}

/* ln of Gamma(a+b+1)/(Gamma(a+1)Gamma(b+1)) x^a (1-x)^b. */
static double log_binomial(double a, double b, double x)
{
    double n = a + b;
    return stirling_error(n) - stirling_error(a) - stirling_error(b) - deviance(a, n * x) -
           deviance(b, n * (1 - x)) + 0.5 * log(n / (2 * M_PI * a * b));
}

/* One step of Lentz's evaluation of a continued fraction: numerator a, denominator b. */
static double lentz(double a, double b, double *c, double *d)
{
    const double tiny = 1e-300;
    *d = b + a * *d;
    *c = b + a / *c;
    if (fabs(*d) < tiny)
        *d = tiny;
    if (fabs(*c) < tiny)
        *c = tiny;
    *d = 1 / *d;
    return *d * *c;
}

/* ln P(a,x) if x is below the mean, else ln Q(a,x) with *upper set. */
static double gamma_tail(double a, double x, bool *upper)
{
    double lead = log_poisson(a, x);
    *upper = x >= a + 1;
    if (!*upper) {
        double sum = 1, term = 1;
        for (int n = 1; n < MAX_TERMS && term > sum * EPS; n++) {
            term *= x / (a + n);
            sum += term;
        }
        return lead + log(sum);
    }
    /* Q = x^a e^-x / Gamma(a) x 1/(x+1-a - 1(1-a)/(x+3-a - 2(2-a)/(x+5-a - ...))) */
    double b = x + 1 - a, c = 1e300, d = 1 / b, h = d;
    for (int n = 1; n < MAX_TERMS; n++) {
        b += 2;
        double step = lentz(-n * (n - a), b, &c, &d);
        h *= step;
        if (fabs(step - 1) < 1e-16)
            break;
    }
    return lead + log(a) + log(h);
}

static double log_gamma(double a, double x, bool want_upper)
{
    if (!(a > 0) || !(x >= 0))
        return NAN;
    if (x == 0 || isinf(x))
        return (x == 0) == want_upper ? 0 : -INFINITY;
    bool upper;
    double tail = fmin(gamma_tail(a, x, &upper), 0);
    return upper == want_upper ? tail : log1m_exp(tail);
}

double tt_stats_log_gamma_p(double a, double x)
{
    return log_gamma(a, x, false);
}

double tt_stats_log_gamma_q(double a, double x)
{
    return log_gamma(a, x, true);
}

double tt_stats_gamma_p(double a, double x)
{
    return exp(log_gamma(a, x, false));
}

double tt_stats_gamma_q(double a, double x)
{
    return exp(log_gamma(a, x, true));
}

/* ln I_x(a,b) for x below about the mean: continued fraction DLMF 8.17.22. */
static double beta_tail(double a, double b, double x)
{
    double lead = log_binomial(a, b, x) + log(b / (a + b));
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
    double h = d;
    for (int m = 1; m < MAX_TERMS; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = lentz(even, 1, &c, &d);
        step *= lentz(odd, 1, &c, &d);
        h *= step;
        if (fabs(step - 1) < 1e-16)
            break;
    }
    return lead + log(h);
}

static double log_beta(double a, double b, double x, bool want_upper)
{
    if (!(a > 0) || !(b > 0) || !(x >= 0) || !(x <= 1))
        return NAN;
    if (x == 0 || x == 1)
        return (x == 0) == want_upper ? 0 : -INFINITY;
    bool upper = x >= (a + 1) / (a + b + 2);
    double tail = fmin(upper ? beta_tail(b, a, 1 - x) : beta_tail(a, b, x), 0);
    return upper == want_upper ? tail : log1m_exp(tail);
}

double tt_stats_log_beta_p(double a, double b, double x)
{
    return log_beta(a, b, x, false);
}

double tt_stats_log_beta_q(double a, double b, double x)
{
    return log_beta(a, b, x, true);
}

double tt_stats_beta_p(double a, double b, double x)
{
    return exp(log_beta(a, b, x, false));
}

double tt_stats_beta_q(double a, double b, double x)
{
    return exp(log_beta(a, b, x, true));
}

double tt_stats_normal_cdf(double z)
{
    return 0.5 * erfc(-z * M_SQRT1_2);
}

double tt_stats_student_cdf(double t, double df)
{
    double tail = 0.5 * tt_stats_beta_p(df / 2, 0.5, df / (df + t * t));
    return t < 0 ? tail : 1 - tail;
}

double tt_stats_poisson_cdf(uint64_t k, double mean)
{
    return tt_stats_gamma_q((double)k + 1, mean);
}

double tt_stats_binomial_cdf(uint64_t k, uint64_t n, double p)
{
    return k >= n ? 1 : tt_stats_beta_q((double)k + 1, (double)(n - k), p);
}

double tt_stats_poisson_log_tail(uint64_t k, double mean)
{
    return k == 0 ? 0 : tt_stats_log_gamma_p((double)k, mean);
}

double tt_stats_binomial_log_tail(uint64_t k, uint64_t n, double p)
{
    if (k == 0)
        return 0;
    return k > n ? -INFINITY : tt_stats_log_beta_p((double)k, (double)(n - k) + 1, p);
}

/* A continuous distribution on [0, end] for bisection; `kind` picks the function. */
struct law {
    bool beta;
    double a, b, end;
};

/* Whether x lies below the p-quantile; compares the tail that keeps its digits. */
static bool below(const struct law *law, double x, double p)
{
    if (p <= 0.5)
        return (law->beta ? tt_stats_beta_p(law->a, law->b, x) : tt_stats_gamma_p(law->a, x)) < p;
    return (law->beta ? tt_stats_beta_q(law->a, law->b, x) : tt_stats_gamma_q(law->a, x)) > 1 - p;
}

static double quantile(const struct law *law, double p)
{
    if (!(p >= 0) || !(p <= 1))
        return NAN;
    if (p == 0 || p == 1)
        return p == 0 ? 0 : law->end;
    double lo, hi = law->beta ? 1 : law->a + 1;
    while (!law->beta && below(law, hi, p))
        hi *= 2;
    for (lo = hi / 2; lo > 0 && !below(law, lo, p); lo /= 2)
        hi = lo;
    for (;;) {
        double mid = lo + (hi - lo) / 2;
        if (mid <= lo || mid >= hi)
            return mid;
        if (below(law, mid, p))
            lo = mid;
        else
            hi = mid;
    }
}

double tt_stats_gamma_quantile(double p, double shape)
{
    return quantile(&(struct law){.a = shape, .end = INFINITY}, p);
}

double tt_stats_chi2_quantile(double p, double df)
{
    return 2 * tt_stats_gamma_quantile(p, df / 2);
}

double tt_stats_beta_quantile(double p, double a, double b)
{
    return quantile(&(struct law){.beta = true, .a = a, .b = b, .end = 1}, p);
}

/* Quantile of a symmetric distribution from its lower tail. df = INFINITY: the normal. */
static double symmetric_quantile(double p, double df)
{
    if (!(p >= 0) || !(p <= 1))
        return NAN;
    if (p > 0.5)
        return -symmetric_quantile(1 - p, df);
    if (p == 0 || p == 0.5)
        return p == 0 ? -INFINITY : 0;
    double lo = -1, hi = 0;
    for (;;) {
        double at = isinf(df) ? tt_stats_normal_cdf(lo) : tt_stats_student_cdf(lo, df);
        if (at < p || lo < -1e300)
            break;
        hi = lo;
        lo *= 2;
    }
    for (;;) {
        double mid = lo + (hi - lo) / 2;
        if (mid <= lo || mid >= hi || fabs(mid) < 1e-300)
            return mid;
        double at = isinf(df) ? tt_stats_normal_cdf(mid) : tt_stats_student_cdf(mid, df);
        if (at < p)
            lo = mid;
        else
            hi = mid;
    }
}

double tt_stats_normal_quantile(double p)
{
    return symmetric_quantile(p, INFINITY);
}

double tt_stats_student_quantile(double p, double df)
{
    return symmetric_quantile(p, df);
}

uint64_t tt_stats_poisson_quantile(double p, double mean)
{
    if (!(p < 1))
        return UINT64_MAX;
    uint64_t lo = 0, hi = (uint64_t)mean + 1;
    while (tt_stats_poisson_cdf(hi, mean) < p)
        hi *= 2;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (tt_stats_poisson_cdf(mid, mean) >= p)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

uint64_t tt_stats_binomial_quantile(double p, uint64_t n, double prob)
{
    uint64_t lo = 0, hi = n;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (tt_stats_binomial_cdf(mid, n, prob) >= p)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

struct tt_stats_interval tt_stats_clopper_pearson(double k, double n, double level)
{
    double tail = (1 - level) / 2;
    return (struct tt_stats_interval){
        .lo = k > 0 ? tt_stats_beta_quantile(tail, k, n - k + 1) : 0,
        .hi = k < n ? tt_stats_beta_quantile(1 - tail, k + 1, n - k) : 1,
    };
}

struct tt_stats_interval tt_stats_garwood(double k, double level)
{
    double tail = (1 - level) / 2;
    return (struct tt_stats_interval){
        .lo = k > 0 ? tt_stats_gamma_quantile(tail, k) : 0,
        .hi = tt_stats_gamma_quantile(1 - tail, k + 1),
    };
}
