"""The names of the KPIs: dashboards and CRM fields hold on to them."""

# ruff: noqa: SIM905 - long lists of words are easier to read as text

from __future__ import annotations

from metrics.catalog import MODELS, PACKS, available
from metrics.definition import Unit

SALES = """
    won_count lost_count closed_count won_value lost_value win_rate win_rate_value deals_created
    close_rate closed_of_created avg_deal_value avg_deal_value_median upsell_customers upsell_rate
    sales_cycle_days sales_cycle_days_median lead_velocity_rate stage_count time_in_stage_days
    time_in_stage_days_median time_in_stage_days_p90 stage_visits stage_age_days stages_per_deal
    reopened_count stage_conversion bottleneck open_count open_value weighted_pipeline
    stalled_count stalled_value is_stalled pipeline_velocity lost_reasons
""".split()
CUSTOMERS_AND_MONEY = """
    revenue purchases buyers avg_purchase_value avg_order_value purchase_frequency customer_value
    customer_lifespan_days cltv new_customers cost cac ltv_cac payback_months customers_start
    customers_end customers_new_or_back customers_lost retention_rate churn_rate
    contract_retention_rate contract_churn_rate nps nps_promoters nps_passives nps_detractors
    nps_responses nps_invalid nps_change
""".split()
MARKETING = """
    leads_created lead_conversion_rate lead_to_customer_rate campaign_cost email_open_rate
    email_click_rate email_unsubscribe_rate email_bounce_rate email_revenue_per_delivered
""".split()
ATTRIBUTED = "campaign_revenue campaign_deals campaign_roi campaign_cac".split()
SERVICE = """
    tickets_created tickets_closed tickets_backlog completion_rate resolution_hours
    resolution_hours_median resolution_hours_p90 first_response_hours reopen_rate
    ticket_recurrence_rate
""".split()


def test_every_kpi_that_was_promised_is_there_and_no_other() -> None:
    attributed = [f"{name}_{model}" for name in ATTRIBUTED for model in MODELS]
    promised = [*SALES, *CUSTOMERS_AND_MONEY, *MARKETING, *attributed, *SERVICE]

    assert sorted(promised) == sorted(available())
    assert set(MODELS) == {"first", "last", "linear", "primary"}
    assert set(PACKS) == {"sales", "marketing", "service", "customer"}


def test_every_worked_example_has_records_and_says_more_than_nothing() -> None:
    for kpi in available().values():
        example = kpi.example
        assert example.records, kpi.name
        if kpi.unit is Unit.TEXT:
            assert example.words, kpi.name
        else:
            assert example.value is not None, f"{kpi.name}: an example without a value shows little"
